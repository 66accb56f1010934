/* What the C export's networks call. A generated file holds the functions that it needs, once per type of its tables
 * where they say INDEX, and where they say FUNCTION or MOVE once per function, whose expression is MADE. An image lies
 * as planes, one a channel; a row is longer than the image is wide by the network's margin, which is the border between
 * rows, and every plane has that margin of zeros all around. */

/* What a convolution computes with: as many floats as the machine adds at a time. */
#if defined(__GNUC__) && defined(__AVX__)
enum { LANES = 8 };
typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
#elif defined(__GNUC__) && (defined(__SSE__) || defined(__ARM_NEON))
enum { LANES = 4 };
typedef float lanes __attribute__((vector_size(16), aligned(4), may_alias));
#else
enum { LANES = 1 };
typedef float lanes;
#endif

/* uint8 rows of pixels to planes. */
static void read_image(const uint8_t *image, float *out, int32_t channels, int32_t height, int32_t width,
                       int32_t row, int32_t plane)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = 0; x < width; x++)
                out[c * plane + y * row + x] = (float)image[(y * width + x) * channels + c];
}

/* Zero mean and unit deviation, with a floor of 1/sqrt(number of values). */
static void standardize(float *values, int32_t channels, int32_t height, int32_t width, int32_t row,
                        int32_t plane)
{
    const float count = (float)channels * (float)height * (float)width;
    float center = 0.0f, square = 0.0f;
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++) {
            const float *line = values + c * plane + y * row;
            float sum = 0.0f;
            for (int32_t x = 0; x < width; x++)
                sum += line[x];
            center += sum; /* exact for pixels of 65,793 values and less, so that a flat image comes out as 0 */
        }
    center /= count;
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++) {
            const float *line = values + c * plane + y * row;
            float sum = 0.0f;
            for (int32_t x = 0; x < width; x++)
                sum += (line[x] - center) * (line[x] - center);
            square += sum;
        }
    square /= count;
    const float least = 1.0f / sqrtf(count);
    const float deviation = sqrtf(square);
    const float factor = 1.0f / (deviation > least ? deviation : least);
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++) {
            float *line = values + c * plane + y * row;
            for (int32_t x = 0; x < width; x++)
                line[x] = (line[x] - center) * factor;
        }
}

/* Zeros around and between the rows. */
static void border(float *out, int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane,
                   int32_t first)
{
    for (int32_t c = 0; c < channels; c++, out += plane) {
        for (int32_t i = 0; i < first; i++)
            out[i] = 0.0f;
        for (int32_t y = 0; y < height; y++)
            for (int32_t i = first + y * row + width; i < first + (y + 1) * row; i++)
                out[i] = 0.0f;
        for (int32_t i = first + height * row; i < plane; i++)
            out[i] = 0.0f;
    }
}

/* Every stride-th pixel of every stride-th row, from (top, left) on: a convolution with a stride becomes one
 * without. */
static void every(const float *restrict in, float *restrict out, int32_t channels, int32_t height, int32_t width,
                  int32_t row, int32_t plane, int32_t out_height, int32_t out_width, int32_t out_row,
                  int32_t out_plane, int32_t stride, int32_t top, int32_t left)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < out_height; y++)
            for (int32_t x = 0; x < out_width; x++) {
                const int32_t from_y = y * stride + top, from_x = x * stride + left;
                const int inside = from_y < height && from_x < width;
                out[c * out_plane + y * out_row + x] = inside ? in[c * plane + from_y * row + from_x] : 0.0f;
            }
}

/* A convolution whose kernel is, for every unit and every factor, a list of places to add and one of places to
 * subtract: a length, then the distance of every place from the one before. Positions run over the rows and the
 * border between them, as many at a time as four variables hold. */
static void conv_INDEX(const float *restrict in, float *restrict out, const SSM_TABLES INDEX_t *list,
                       const SSM_TABLES float *factors, int levels, int32_t units, int32_t positions,
                       int32_t plane)
{
    for (int32_t first = 0; first < positions; first += 4 * LANES) {
        const SSM_TABLES INDEX_t *next = list;
        for (int32_t unit = 0; unit < units; unit++) {
            lanes *const to = (lanes *)(out + unit * plane + first);
            for (int level = 0; level < levels; level++) {
                lanes a = {0.0f}, b = {0.0f}, c = {0.0f}, d = {0.0f};
                const float *from = in + first;
                for (INDEX_t left = *next++; left > 0; left--) {
                    from += *next++;
                    a += ((const lanes *)from)[0];
                    b += ((const lanes *)from)[1];
                    c += ((const lanes *)from)[2];
                    d += ((const lanes *)from)[3];
                }
                from = in + first;
                for (INDEX_t left = *next++; left > 0; left--) {
                    from += *next++;
                    a -= ((const lanes *)from)[0];
                    b -= ((const lanes *)from)[1];
                    c -= ((const lanes *)from)[2];
                    d -= ((const lanes *)from)[3];
                }
                a *= factors[level];
                b *= factors[level];
                c *= factors[level];
                d *= factors[level];
                if (level > 0) {
                    a += to[0];
                    b += to[1];
                    c += to[2];
                    d += to[3];
                }
                to[0] = a;
                to[1] = b;
                to[2] = c;
                to[3] = d;
            }
        }
    }
}

/* The same with a weight for every place. */
static void conv_weights_INDEX(const float *restrict in, float *restrict out, const SSM_TABLES INDEX_t *list,
                               const SSM_TABLES float *weights, int32_t units, int32_t positions, int32_t plane)
{
    for (int32_t first = 0; first < positions; first += 4 * LANES) {
        const SSM_TABLES INDEX_t *next = list;
        const SSM_TABLES float *weight = weights;
        for (int32_t unit = 0; unit < units; unit++) {
            lanes *const to = (lanes *)(out + unit * plane + first);
            lanes a = {0.0f}, b = {0.0f}, c = {0.0f}, d = {0.0f};
            const float *from = in + first;
            for (INDEX_t left = *next++; left > 0; left--) {
                from += *next++;
                a += *weight * ((const lanes *)from)[0];
                b += *weight * ((const lanes *)from)[1];
                c += *weight * ((const lanes *)from)[2];
                d += *weight * ((const lanes *)from)[3];
                weight++;
            }
            to[0] = a;
            to[1] = b;
            to[2] = c;
            to[3] = d;
        }
    }
}

/* A dense layer, by the same lists. */
static void dense_INDEX(const float *restrict in, float *restrict out, const SSM_TABLES INDEX_t *list,
                        const SSM_TABLES float *factors, int levels, int32_t units)
{
    for (int32_t unit = 0; unit < units; unit++) {
        float total = 0.0f;
        for (int level = 0; level < levels; level++) {
            float added = 0.0f, subtracted = 0.0f;
            const float *from = in;
            for (INDEX_t left = *list++; left > 0; left--) {
                from += *list++;
                added += *from;
            }
            from = in;
            for (INDEX_t left = *list++; left > 0; left--) {
                from += *list++;
                subtracted += *from;
            }
            total += factors[level] * (added - subtracted);
        }
        out[unit] = total;
    }
}

/* The same with a weight for every place. */
static void dense_weights_INDEX(const float *restrict in, float *restrict out, const SSM_TABLES INDEX_t *list,
                                const SSM_TABLES float *weights, int32_t units)
{
    for (int32_t unit = 0; unit < units; unit++) {
        const float *from = in;
        float sum = 0.0f;
        for (INDEX_t left = *list++; left > 0; left--) {
            from += *list++;
            sum += *weights++ * *from;
        }
        out[unit] = sum;
    }
}

/* values * factor + offset, one of each a channel. */
static void scale(float *values, int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane,
                  const SSM_TABLES float *factors, const SSM_TABLES float *offsets)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++) {
            float *line = values + c * plane + y * row;
            for (int32_t x = 0; x < width; x++)
                line[x] = line[x] * factors[c] + offsets[c];
        }
}

/* values + offset, one a channel. */
static void offset(float *values, int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane,
                   const SSM_TABLES float *offsets)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++) {
            float *line = values + c * plane + y * row;
            for (int32_t x = 0; x < width; x++)
                line[x] += offsets[c];
        }
}

/* values + offset, one a value. */
static void offset_each(float *values, int32_t channels, int32_t height, int32_t width, int32_t row,
                        int32_t plane, const SSM_TABLES float *offsets)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++, offsets += width) {
            float *line = values + c * plane + y * row;
            for (int32_t x = 0; x < width; x++)
                line[x] += offsets[x];
        }
}

/* x where it is positive, else exp(x) - 1: that of x/16 by its series, then four times exp(2x) - 1 = y * (y + 2),
 * where y = exp(x) - 1. Without branches, so that compilers vectorize it; 0 stays 0. */
static void elu(float *values, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        const float x = values[i];
        const float t = (x < -18.0f ? -18.0f : x > 0.0f ? 0.0f : x) * 0.0625f;
        float y = t * (1.0f / 720.0f) + 1.0f / 120.0f;
        y = t * y + 1.0f / 24.0f;
        y = t * y + 1.0f / 6.0f;
        y = t * y + 1.0f / 2.0f;
        y = t * y + 1.0f;
        y = t * y;
        y = y * (y + 2.0f);
        y = y * (y + 2.0f);
        y = y * (y + 2.0f);
        y = y * (y + 2.0f);
        values[i] = x > 0.0f ? x : y;
    }
}

/* The largest value of every window, of which what lies outside the image is no part. */
static void max_pool(const float *restrict in, float *restrict out, int32_t channels, int32_t height,
                     int32_t width, int32_t row, int32_t plane, int32_t out_height, int32_t out_width,
                     int32_t out_row, int32_t out_plane, int32_t window, int32_t stride, int32_t padding)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < out_height; y++) {
            float *line = out + c * out_plane + y * out_row;
            for (int32_t x = 0; x < out_width; x++)
                line[x] = -INFINITY;
            for (int32_t dy = -padding; dy < window - padding; dy++) {
                const int32_t from_y = y * stride + dy;
                if (from_y < 0 || from_y >= height)
                    continue;
                for (int32_t dx = -padding; dx < window - padding; dx++) {
                    const float *from = in + c * plane + from_y * row + dx;
                    int32_t first = 0, end = out_width;
                    while (first * stride + dx < 0)
                        first++;
                    while (end > 0 && (end - 1) * stride + dx >= width)
                        end--;
                    for (int32_t x = first; x < end; x++)
                        line[x] = line[x] > from[x * stride] ? line[x] : from[x * stride];
                }
            }
        }
}

/* Mean over every plane. */
static void mean(const float *restrict in, float *restrict out, int32_t channels, int32_t height, int32_t width,
                 int32_t row, int32_t plane)
{
    for (int32_t c = 0; c < channels; c++) {
        float sum = 0.0f;
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = 0; x < width; x++)
                sum += in[c * plane + y * row + x];
        out[c] = sum / ((float)height * (float)width);
    }
}

/* Planes to rows of pixels. */
static void flatten(const float *restrict in, float *restrict out, int32_t channels, int32_t height,
                    int32_t width, int32_t row, int32_t plane)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = 0; x < width; x++)
                out[(y * width + x) * channels + c] = in[c * plane + y * row + x];
}

/* values + others. */
static void add(float *restrict values, const float *restrict others, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        values[i] += others[i];
}

/* values. */
static void copy(const float *restrict in, float *restrict out, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = in[i];
}

/* FUNCTION of every element. */
static void constants_of_FUNCTION(float *values, int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane, const SSM_TABLES float *constants)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t i = c * plane + y * row; i < c * plane + y * row + width; i++) {
                const float a = values[i], b = constants[c];
                values[i] = MADE;
            }
}

/* FUNCTION of every element. */
static void left_constants_of_FUNCTION(float *values, int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane, const SSM_TABLES float *constants)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t i = c * plane + y * row; i < c * plane + y * row + width; i++) {
                const float a = constants[c], b = values[i];
                values[i] = MADE;
            }
}

/* Of every window one number. */
static void pool_of_FUNCTION(const float *restrict in, float *restrict out, int32_t channels, int32_t height,
                 int32_t width, int32_t row, int32_t plane, int32_t out_height, int32_t out_width,
                 int32_t out_row, int32_t out_plane, int32_t tall, int32_t wide, int32_t down, int32_t right,
                 int32_t top, int32_t left)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < out_height; y++)
            for (int32_t x = 0; x < out_width; x++) {
                float a = START;
                for (int32_t i = y * down - top; i < y * down - top + tall; i++)
                    for (int32_t j = x * right - left; j < x * right - left + wide; j++)
                        if (i >= 0 && i < height && j >= 0 && j < width) {
                            const float b = in[c * plane + i * row + j];
                            a = MADE;
                        }
                out[c * out_plane + y * out_row + x] = a;
            }
}

/* yes where a value is true, else no. */
static void select_of_two(float *values, int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane, const float *yes, const float *no)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t i = c * plane + y * row; i < c * plane + y * row + width; i++) {
                values[i] = values[i] != 0.0f ? yes[i] : no[i];
            }
}

/* FUNCTION of every element. */
static void unary_of_FUNCTION(float *values, int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t i = c * plane + y * row; i < c * plane + y * row + width; i++) {
                const float a = values[i];
                values[i] = MADE;
            }
}

/* FUNCTION of every element. */
static void values_of_FUNCTION(float *values, int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane, const float *others)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t i = c * plane + y * row; i < c * plane + y * row + width; i++) {
                const float a = values[i], b = others[i];
                values[i] = MADE;
            }
}

/* One number everywhere. */
static void fill(float *out, int32_t count, float number)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = number;
}

/* Matrix products, one after another. */
static void product(const float *a, const float *b, float *out, int32_t count, int32_t rows, int32_t inner,
                    int32_t columns)
{
    for (; count > 0; count--, b += inner * columns)
        for (int32_t row = 0; row < rows; row++, a += inner)
            for (int32_t column = 0; column < columns; column++) {
                float sum = 0.0f;
                for (int32_t i = 0; i < inner; i++)
                    sum += a[i] * b[i * columns + column];
                *out++ = sum;
            }
}

/* Rows of a table by their numbers. */
static void embed(const float *in, float *out, const SSM_TABLES float *rows, int32_t count, int32_t last,
                  int32_t features)
{
    for (int32_t i = 0; i < count; i++) {
        const int32_t number = in[i] < 0.0f ? 0 : in[i] > (float)last ? last : (int32_t)in[i];
        for (int32_t feature = 0; feature < features; feature++)
            *out++ = rows[number * features + feature];
    }
}

/* ABOUT shape: the number of axes, then of all axes the sizes, the distances in and the distances out. */
static void MOVE(const SPACEfloat *in, float *out, const SSM_TABLES uint32_t *shape)
{
    const uint32_t axes = shape[0];
    const SSM_TABLES uint32_t *size = shape, *from = shape + axes, *to = shape + 2 * axes;
    uint32_t at[9] = {0};
    for (uint32_t axis = axes; axis > 0;) {
        const float a = *out, b = *in;
        (void)a;
        *out = MADE;
        for (axis = axes; axis > 0; axis--) {
            in += from[axis];
            out += to[axis];
            if (++at[axis] < size[axis])
                break;
            in -= size[axis] * from[axis];
            out -= size[axis] * to[axis];
            at[axis] = 0;
        }
    }
}
