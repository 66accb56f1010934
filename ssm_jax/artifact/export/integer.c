/* What the integer C export's networks call; a generated file holds the functions that it needs, NET being its
 * prefix. Values are int8 in planes, one a channel. No function needs more than 64 bits of a whole number. */

/* Weights that are not 0, as a stream of bits, the lowest bit of a byte first. Inputs are counted from one weight
 * to the next, from unit to unit without a break. The count is as many ones as it has whole 2^low, a zero, and the
 * low bits; a bit for a minus and the size less one follow. */
struct weights {
    const uint8_t *next;
    uint16_t bits; /* that were read and not taken, left of them */
    uint8_t left, low, wide;
    int32_t ahead; /* inputs before the next weight */
};

/* The next bits of a stream, at most 8. */
static uint8_t take(struct weights *from, uint8_t count)
{
    if (from->left < count) {
        from->bits = (uint16_t)(from->bits | NET_READ(from->next) << from->left);
        from->next++;
        from->left = (uint8_t)(from->left + 8);
    }
    const uint8_t value = (uint8_t)(from->bits & ((1u << count) - 1));
    from->bits = (uint16_t)(from->bits >> count);
    from->left = (uint8_t)(from->left - count);
    return value;
}

/* Inputs to skip until the next weight. */
static int32_t gap(struct weights *from)
{
    int32_t whole = 0;
    while (take(from, 1))
        whole++;
    return (int32_t)((uint32_t)whole << from->low) + take(from, from->low);
}

/* A stream from its beginning. */
static struct weights begin(const uint8_t *stream, uint8_t low, uint8_t wide)
{
    struct weights made = {stream, 0, 0, low, wide, 0};
    made.ahead = gap(&made);
    return made;
}

/* The next weight; then the stream is before the one after it. */
static int16_t weight(struct weights *from)
{
    const uint8_t minus = take(from, 1);
    const int16_t size = (int16_t)(take(from, from->wide) + 1);
    from->ahead += 1 + gap(from);
    return minus ? (int16_t)-size : size;
}

/* A unit's sum over inputs that lie side by side. */
static int32_t dense(struct weights *from, const int8_t *in, int32_t inputs)
{
    int32_t sum = 0;
    while (from->ahead < inputs) {
        const int8_t value = in[from->ahead];
        sum += (int32_t)weight(from) * value;
    }
    from->ahead -= inputs;
    return sum;
}

/* A unit's sums at all places of its plane: weight after weight, each over the whole plane. Of its window, side x
 * side, top and left lie before the first pixel. */
static void convolve(struct weights *from, const int8_t *in, int32_t *sums, int32_t channels, int32_t height,
                     int32_t width, int32_t out_height, int32_t out_width, int32_t side, int32_t stride,
                     int32_t top, int32_t left)
{
    for (int32_t i = 0; i < out_height * out_width; i++)
        sums[i] = 0;
    for (int32_t dy = -top; dy < side - top; dy++)
        for (int32_t dx = -left; dx < side - left; dx++) {
            int32_t y0 = 0, y1 = out_height, x0 = 0, x1 = out_width;
            while (y0 < y1 && y0 * stride + dy < 0)
                y0++;
            while (y0 < y1 && (y1 - 1) * stride + dy >= height)
                y1--;
            while (x0 < x1 && x0 * stride + dx < 0)
                x0++;
            while (x0 < x1 && (x1 - 1) * stride + dx >= width)
                x1--;
            while (from->ahead < channels) {
                const int8_t *const plane = in + from->ahead * height * width;
                const int32_t factor = weight(from);
                for (int32_t y = y0; y < y1; y++) {
                    const int8_t *pixel = plane + (y * stride + dy) * width + x0 * stride + dx;
                    int32_t *sum = sums + y * out_width + x0, *const end = sums + y * out_width + x1;
                    if (factor == 1)
                        for (; sum < end; sum++, pixel += stride)
                            *sum += *pixel;
                    else if (factor == -1)
                        for (; sum < end; sum++, pixel += stride)
                            *sum -= *pixel;
                    else
                        for (; sum < end; sum++, pixel += stride)
                            *sum += factor * *pixel;
                }
            }
            from->ahead -= channels;
        }
}

/* value / 2^shift as int8, to nearest, halves away from 0. */
static int8_t rounded(int64_t value, uint8_t shift)
{
    const uint64_t size = value < 0 ? (uint64_t)-value : (uint64_t)value;
    const uint64_t nearest = (size + ((uint64_t)1 << (shift - 1))) >> shift;
    if (value < 0)
        return nearest > 128 ? -128 : (int8_t)-(int16_t)nearest;
    return nearest > 127 ? 127 : (int8_t)nearest;
}

/* ELU by a table of what -1, -2, ... become with the sign turned. */
static int8_t elu(int8_t value, const uint8_t *table, int16_t entries)
{
    const int16_t place = (int16_t)(-value < entries ? -1 - value : entries - 1);
    return value >= 0 ? value : (int8_t)-(int16_t)NET_READ(table + place);
}

/* ELU of many. */
static void elus(int8_t *values, int32_t count, const uint8_t *table, int16_t entries)
{
    for (int32_t i = 0; i < count; i++)
        values[i] = elu(values[i], table, entries);
}

/* The largest sum of every window as int8. */
static void finish(const int32_t *sums, int8_t *out, int32_t width, int32_t out_height, int32_t out_width,
                   int32_t window, int32_t stride, int32_t factor, uint8_t shift)
{
    for (int32_t y = 0; y < out_height; y++)
        for (int32_t x = 0; x < out_width; x++) {
            const int32_t *const first = sums + (y * width + x) * stride;
            int32_t most = *first;
            for (int32_t dy = 0; dy < window; dy++)
                for (int32_t dx = 0; dx < window; dx++)
                    most = first[dy * width + dx] > most ? first[dy * width + dx] : most;
            *out++ = rounded((int64_t)most * factor, shift);
        }
}

/* The whole number whose square comes closest from below. */
static uint32_t root(uint64_t square)
{
    uint32_t made = 0;
    for (uint32_t bit = (uint32_t)1 << 31; bit > 0; bit >>= 1)
        if ((uint64_t)(made | bit) * (made | bit) <= square)
            made |= bit;
    return made;
}

/* Pixels, channels side by side, to planes of zero mean and unit deviation, with a floor of 1/sqrt(count). */
static void standardize(const uint8_t *image, int8_t *out, int32_t places, int32_t channels, uint64_t scale)
{
    const int32_t count = places * channels;
    uint64_t total = 0, squares = 0;
    for (int32_t i = 0; i < count; i++) {
        total += image[i];
        squares += (uint32_t)image[i] * image[i];
    }
    const uint32_t least = root((uint64_t)count), deviation = root((uint64_t)count * squares - total * total);
    const int64_t factor = (int64_t)(scale / (deviation > least ? deviation : least));
    for (int32_t c = 0; c < channels; c++)
        for (int32_t i = 0; i < places; i++)
            *out++ = rounded(((int64_t)count * image[i * channels + c] - (int64_t)total) * factor, PIXEL_SHIFT);
}

/* The largest value of every window, of which what lies outside the image is no part. */
static void max_pool(const int8_t *in, int8_t *out, int32_t channels, int32_t height, int32_t width,
                     int32_t out_height, int32_t out_width, int32_t window, int32_t stride, int32_t padding)
{
    for (int32_t c = 0; c < channels; c++, in += height * width)
        for (int32_t y = -padding; y < out_height * stride - padding; y += stride)
            for (int32_t x = -padding; x < out_width * stride - padding; x += stride) {
                int8_t most = -128;
                for (int32_t from_y = y < 0 ? 0 : y; from_y < y + window && from_y < height; from_y++)
                    for (int32_t from_x = x < 0 ? 0 : x; from_x < x + window && from_x < width; from_x++)
                        most = in[from_y * width + from_x] > most ? in[from_y * width + from_x] : most;
                *out++ = most;
            }
}

/* Mean over every plane. */
static void mean(const int8_t *in, int8_t *out, int32_t channels, int32_t places, int32_t factor, uint8_t shift)
{
    for (int32_t c = 0; c < channels; c++) {
        int32_t sum = 0;
        for (int32_t i = 0; i < places; i++)
            sum += *in++;
        out[c] = rounded((int64_t)sum * factor, shift);
    }
}

/* left + right, each in its own units. */
static void add(const int8_t *left, const int8_t *right, int8_t *out, int32_t count, int32_t left_factor,
                int32_t right_factor, uint8_t shift)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = rounded((int64_t)left[i] * left_factor + (int64_t)right[i] * right_factor, shift);
}

/* Planes to rows of pixels. */
static void flatten(const int8_t *in, int8_t *out, int32_t channels, int32_t places)
{
    for (int32_t i = 0; i < places; i++)
        for (int32_t c = 0; c < channels; c++)
            *out++ = in[c * places + i];
}

/* values. */
static void copy(const int8_t *in, int8_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = in[i];
}
