/* Classifies the images of images.h and prints, of each, the class and the logits. */
#include <inttypes.h>
#include <stdio.h>

#include "images.h"
#include "model.h"

#ifdef COUNT
uint32_t instructions(void); /* of cortex-m/startup.c */
#else
#define instructions() UINT32_C(0)
#endif

static const char *const names[] = MODEL_CLASS_NAMES;
static int32_t scratch[MODEL_SCRATCH];

int main(void)
{
    for (size_t i = 0; i < sizeof images / sizeof *images; i++) {
        int32_t logits[MODEL_CLASSES];
        const uint32_t before = instructions();
        const int32_t label = model_predict(images[i], logits, scratch);
        const uint32_t taken = instructions() - before;
        printf("%s:", names[label]);
        for (int j = 0; j < MODEL_CLASSES; j++)
            printf(" %" PRId32, logits[j]);
        printf(taken ? " (%" PRIu32 " instructions)\n" : "\n", taken);
    }
    return 0;
}
