/* What runs before main on a Cortex-M, for qemu-system-arm -M mps2-an385 and its semihosting. A board's own
 * package has a file like this one, with all of its interrupts. */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;

void initialise_monitor_handles(void); /* of librdimon: printf goes to the host */
int main(void);

/* The system timer. qemu's runs at 25 MHz, and with -icount shift=0 an instruction takes 1 ns. It counts 24 bits
 * down and begins anew: between two calls lie less than 2^24 ticks, 671 million instructions. */
static volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010;

uint32_t instructions(void);
uint32_t instructions(void)
{
    static uint32_t before = 0xFFFFFF, ticks;
    const uint32_t now = systick[2];
    ticks += (before - now) & 0xFFFFFF;
    before = now;
    return ticks * 40;
}

static void reset(void)
{
    const uint32_t *from = &data_load;
    for (uint32_t *to = &data_start; to < &data_end; to++)
        *to = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end; to++)
        *to = 0;
    systick[1] = 0xFFFFFF;
    systick[2] = 0;
    systick[0] = 5; /* on, by the processor's clock */
    initialise_monitor_handles();
    const int status = main();
    fflush(stdout);
    _exit(status);
}

static void fault(void)
{
    _exit(1);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, reset, fault, fault, fault, fault, fault,
};
