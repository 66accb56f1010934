/* Classifies an image that comes over the serial port, MODEL_HEIGHT x MODEL_WIDTH x MODEL_CHANNELS bytes, and
 * answers with its class and the time that this took. Copy model.c and model.h beside this file. */
#include "model.h"

static uint8_t image[MODEL_HEIGHT * MODEL_WIDTH * MODEL_CHANNELS];
static int32_t scratch[MODEL_SCRATCH];

void setup()
{
    Serial.begin(115200);
}

void loop()
{
    static const char *const names[] = MODEL_CLASS_NAMES;
    if (Serial.readBytes((char *)image, sizeof image) < sizeof image)
        return;
    int32_t logits[MODEL_CLASSES];
    const unsigned long before = micros();
    const int32_t label = model_predict(image, logits, scratch);
    const unsigned long taken = micros() - before;
    Serial.print(names[label]);
    Serial.print(" in microseconds: ");
    Serial.println(taken);
}
