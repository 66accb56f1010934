#include "base.h"
#include "convolve.h"
#include "gradient.h"
#include "pages.h"
#include "pool.h"
#include "select.h"

namespace {

using Array = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::Result<Array>;

Image image_of(ffi::Span<const int64_t> shape) { return {shape[1], shape[2], shape[3]}; }

int64_t padding(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return std::max<int64_t>(0, (out - 1) * stride + kernel - in) / 2;
}

Convolution convolution_of(ffi::Span<const int64_t> inputs, ffi::Span<const int64_t> kernel,
                           ffi::Span<const int64_t> outputs, int64_t stride) {
  Convolution c;
  c.from = image_of(inputs);
  c.to = image_of(outputs);
  c.batch = up(inputs[0], kLanes);
  c.rows = kernel[0];
  c.columns = kernel[1];
  c.stride = stride;
  c.top = padding(c.from.height, c.to.height, c.rows, stride);
  c.left = padding(c.from.width, c.to.width, c.columns, stride);
  c.backward = false;
  return c;
}

void convolve(ffi::ThreadPool& pool, const Convolution& c, const float* kernel, double most, int64_t batch,
              const float* from, float* to) {
  std::unique_ptr<float[]> wide_from, wide_to;
  float* made = to;
  if (batch != c.batch) {
    wide_from = widened(pool, from, c.from.pixels() * c.from.channels, batch, c.batch);
    wide_to.reset(new float[c.to.pixels() * c.to.channels * c.batch]);
    from = wide_from.get();
    made = wide_to.get();
  }
  const int64_t columns = c.backward ? c.from.channels : c.to.channels;
  const int64_t rows = c.taps() * (c.backward ? c.to.channels : c.from.channels);
  std::vector<int64_t> starts(rows + 1);
  if (count_rows(pool, kernel, rows, columns, starts.data()) > most * (rows * columns))
    dense(pool, c, kernel, from, made);
  else
    sparse(pool, c, list(pool, c, kernel, starts), from, made);
  if (made != to)
    for (int64_t row = 0; row < c.to.pixels() * c.to.channels; row++)
      std::memcpy(to + row * batch, made + row * c.batch, batch * sizeof(float));
}

void enlarge(Result& made) {
  if (made->size_bytes() >= size_t(1) << 22) enlarge_mapping(made->typed_data());
}

template <typename Work>
ffi::Error guarded(const Work& work) {
  try {
    work();
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "no memory is left for a product");
  }
  return ffi::Error::Success();
}

ffi::Error forward(ffi::ThreadPool pool, Array inputs, Array kernel, Result outputs, int64_t stride, double most) {
  return guarded([&] {
    enlarge(outputs);
    const Convolution c = convolution_of(inputs.dimensions(), kernel.dimensions(), outputs->dimensions(), stride);
    convolve(pool, c, kernel.typed_data(), most, inputs.dimensions()[0], inputs.typed_data(), outputs->typed_data());
  });
}

ffi::Error of_inputs(ffi::ThreadPool pool, Array gradient, Array kernel, Result made, int64_t stride, double most) {
  return guarded([&] {
    enlarge(made);
    Convolution c = convolution_of(made->dimensions(), kernel.dimensions(), gradient.dimensions(), stride);
    std::swap(c.from, c.to);
    c.backward = true;
    convolve(pool, c, kernel.typed_data(), most, made->dimensions()[0], gradient.typed_data(), made->typed_data());
  });
}

ffi::Error of_kernel(ffi::ThreadPool pool, Array inputs, Array gradient, Result made, int64_t stride, bool bfloat16) {
  return guarded([&] {
    const Convolution c = convolution_of(inputs.dimensions(), made->dimensions(), gradient.dimensions(), stride);
    const int64_t batch = inputs.dimensions()[0];
    const float *x = inputs.typed_data(), *y = gradient.typed_data();
    std::unique_ptr<float[]> wide_x, wide_y;
    if (batch != c.batch) {
      wide_x = widened(pool, x, c.from.pixels() * c.from.channels, batch, c.batch);
      wide_y = widened(pool, y, c.to.pixels() * c.to.channels, batch, c.batch);
      x = wide_x.get();
      y = wide_y.get();
    }
    (bfloat16 ? of_kernel_in<Pairs> : of_kernel_in<Floats>)(pool, c, x, y, made->typed_data());
  });
}

ffi::Error of_pool(ffi::ThreadPool pool, Array inputs, Array outputs, Array cotangent, Result made, int64_t window,
                   int64_t stride) {
  return guarded([&] {
    enlarge(made);
    const Pool p = {image_of(inputs.dimensions()), image_of(outputs.dimensions()), inputs.dimensions()[0], window, stride};
    unpool(pool, p, inputs.typed_data(), outputs.typed_data(), cotangent.typed_data(), made->typed_data());
  });
}

ffi::Error select_ranks(ffi::ThreadPool pool, ffi::Buffer<ffi::S32> values, ffi::Buffer<ffi::S32> ranks,
                        ffi::Result<ffi::Buffer<ffi::S32>> bounds) {
  return guarded([&] {
    const int64_t count = values.dimensions().back(), number = ranks.dimensions().back();
    for (size_t row = 0; row < values.element_count() / count; row++)
      select_all(pool, values.typed_data() + row * count, count, ranks.typed_data() + row * number, number,
                 bounds->typed_data() + row * number);
  });
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(ssm_jax_select, select_ranks,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>().Ret<ffi::Buffer<ffi::S32>>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ssm_jax_forward, forward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
                                  .Attr<int64_t>("stride").Attr<double>("most"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(ssm_jax_of_inputs, of_inputs,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
                                  .Attr<int64_t>("stride").Attr<double>("most"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(ssm_jax_of_kernel, of_kernel,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>()
                                  .Attr<int64_t>("stride").Attr<bool>("bfloat16"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(ssm_jax_of_pool, of_pool,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>()
                                  .Attr<int64_t>("window").Attr<int64_t>("stride"));
