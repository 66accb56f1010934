"""The same masked training step in PyTorch, to compare with: networks, gradient, update, batches.

Frozen kernels and thresholds are buffers, scores are the parameters. Images stay uint8 on the device;
a step gathers its batch at random, standardizes it, goes forward and back, decays the scores and
takes a fused Nesterov step. On CUDA the forward and backward passes are compiled by `torch.compile` and
the whole step is one CUDA graph, replayed without any work of the host; tensors are channels-last and
bfloat16 is autocast. Elsewhere it runs eagerly.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

THREADS = torch.get_num_threads()

Layers = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


class Ternary(torch.autograd.Function):
    """The signed mask with a straight-through gradient."""

    @staticmethod
    def forward(context: Any, scores: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        """+1 above the threshold, -1 below its negative, else 0."""
        return (scores > threshold).to(scores.dtype) - (scores < -threshold).to(scores.dtype)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The mask's gradient, handed to the scores; none for the threshold."""
        return gradient, None


class Masked(nn.Module):
    """A frozen kernel under the mask of its scores.

    Args:
      shape: as JAX has it: `(I, O)`, or `(K, K, I, O)`, which is kept as `(O, I, K, K)`.
      stride: of a convolution.
      threshold: share of the largest score, in [0, 1].
    """

    def __init__(self, shape: Sequence[int], stride: int = 1, threshold: float = 0.4) -> None:
        super().__init__()
        fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
        kernel = math.sqrt(3 / fan_in) * (2.0 * torch.randint(0, 2, tuple(shape)) - 1)
        scores = math.sqrt(6 / (fan_in + fan_out)) * (2 * torch.rand(tuple(shape)) - 1)
        self.stride, self.order = stride, (3, 2, 0, 1) if len(shape) == 4 else (0, 1)
        self.register_buffer("kernel", kernel.permute(self.order).contiguous())
        self.scores = nn.Parameter(scores.permute(self.order).contiguous())
        self.register_buffer("threshold", threshold * scores.abs().max())

    def load(self, kernel: np.ndarray, scores: np.ndarray, threshold: np.ndarray) -> None:
        """Take over a JAX layer's arrays."""
        with torch.no_grad():
            self.kernel.copy_(torch.tensor(kernel).permute(self.order))
            self.scores.copy_(torch.tensor(scores).permute(self.order))
            self.threshold.copy_(torch.tensor(threshold))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """`[B, I]` to `[B, O]`, or `[B, I, H, W]` to `[B, O, H', W']`."""
        kernel = self.kernel * Ternary.apply(self.scores, self.threshold)
        if kernel.ndim == 2:
            return inputs @ kernel
        return F.conv2d(inputs, kernel, stride=self.stride, padding=kernel.shape[-1] // 2)


def _denses(features: Sequence[int], threshold: float) -> nn.ModuleList:
    shapes = itertools.pairwise(features)
    return nn.ModuleList(Masked(shape, threshold=threshold) for shape in shapes)


class Plain(nn.Module):
    """FCN (no convolutions) and Conv2 to Conv8; layers are named as in JAX.

    Args:
      image_shape: `(H, W, C)`.
      classes: number of classes.
      depth: number of convolutions.
      hidden: units of the two hidden dense layers.
      width: multiplies filters and hidden units.
      threshold: share of the largest score.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: int,
        depth: int,
        hidden: Sequence[int],
        width: float,
        threshold: float,
    ) -> None:
        super().__init__()
        height, width_, channels = image_shape
        filters = [channels, *(max(1, round(width * 64 * 2 ** (i // 2))) for i in range(depth))]
        self.convs = nn.ModuleList(
            Masked((3, 3, i, o), threshold=threshold) for i, o in itertools.pairwise(filters)
        )
        flat = (height // 2 ** (depth // 2)) * (width_ // 2 ** (depth // 2)) * filters[-1]
        self.denses = _denses([flat, *(max(1, round(width * n)) for n in hidden), classes], threshold)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images `[B, C, H, W]`."""
        for i, conv in enumerate(self.convs):
            images = F.elu(conv(images))
            if i % 2:
                images = F.max_pool2d(images, 2)
        # JAX flattens channels last; in that memory format this is no copy.
        hidden = images.permute(0, 2, 3, 1).flatten(1)
        for dense in self.denses[:-1]:
            hidden = F.elu(dense(hidden))
        return self.denses[-1](hidden)


class Block(nn.Module):
    """A residual block; `first` of its stage: 1x1 first convolution and projection, and one more ELU."""

    def __init__(self, inputs: int, outputs: int, stride: int, first: bool, threshold: float) -> None:
        super().__init__()
        size = 1 if first else 3
        self.conv1 = Masked((size, size, inputs, outputs), stride, threshold)
        self.conv2 = Masked((3, 3, outputs, outputs), 1, threshold)
        self.projection = Masked((1, 1, inputs, outputs), stride, threshold) if first else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply to `[B, I, H, W]`."""
        hidden = self.conv2(F.elu(self.conv1(inputs)))
        if self.projection is not None:
            hidden, inputs = F.elu(hidden), self.projection(inputs)
        return F.elu(hidden + inputs)


class ResNet(nn.Module):
    """ResNet20 with the normalization `paper`: batch norm after the stem, nothing else."""

    def __init__(self, image_shape: Sequence[int], classes: int, width: float, threshold: float) -> None:
        super().__init__()
        filters = [max(1, round(width * n)) for n in (16, 32, 64)]
        self.stem = Masked((3, 3, image_shape[-1], filters[0]), 1, threshold)
        self.stem_norm = nn.BatchNorm2d(filters[0], eps=1e-3, momentum=0.01)
        self.blocks = nn.ModuleList(
            Block(filters[max(s - (b == 0), 0)], filters[s], 2 if s and not b else 1, b == 0, threshold)
            for s in range(3)
            for b in range(3)
        )
        self.head = Masked((filters[-1], classes), threshold=threshold)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images `[B, C, H, W]`."""
        hidden = F.elu(self.stem_norm(self.stem(images)))
        hidden = F.max_pool2d(hidden, 3, 1, 1)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden.mean((2, 3)))


def build(
    name: str, image_shape: Sequence[int], classes: int, width: float = 1.0, threshold: float = 0.4
) -> nn.Module:
    """A network by its name in `ssm_jax.nn.networks`, ResNet20 the deepest of its kind here."""
    if name == "resnet20":
        return ResNet(image_shape, classes, width, threshold)
    if name == "fcn":
        return Plain(image_shape, classes, 0, (300, 100), width, threshold)
    return Plain(image_shape, classes, int(name.removeprefix("conv")), (256, 256), width, threshold)


def load(network: nn.Module, layers: Layers) -> None:
    """Take over kernels, scores and thresholds of a JAX network.

    Args:
      network: what `build` returned.
      layers: by the layer's path such as `convs/0`: kernel, scores, threshold.
    """
    for path, arrays in layers.items():
        network.get_submodule(path.replace("/", ".")).load(*arrays)


class Training:
    """A network in training on data that lies on the device.

    Args:
      network: what `build` returned.
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.
      batch_size: B.
      device: `cpu` or `cuda`.
      precision: `float32` or `bfloat16`, the latter by autocast.
      channels_last: memory format of kernels and activations.
      learning_rate: at the start.
      weight_decay: share that a step takes away at the start.
      momentum: in [0, 1).
      decay_steps: after so many steps, rate and decay have fallen to 0.9 times their value.
      compiled: whether to compile on CUDA; the graph is captured there in any case.

    Attributes:
      steps: of an epoch, `ceil(N / B)`.
      totals: sums of loss and accuracy, `[2]`.
      threads: of the CPU that `run` uses.
    """

    def __init__(
        self,
        network: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        device: str = "cpu",
        precision: str = "float32",
        channels_last: bool = True,
        learning_rate: float = 0.05,
        weight_decay: float = 5e-4,
        momentum: float = 0.9,
        decay_steps: int = 4690,
        compiled: bool = True,
    ) -> None:
        cuda = device == "cuda"
        if cuda:
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")  # TF32, as JAX has it by default
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(device)
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=self.memory_format)
        self.images = torch.tensor(images, device=device)
        self.labels = torch.tensor(labels, device=device).long()
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.steps = -(-len(images) // batch_size)
        self.rate, self.decay, self.momentum = learning_rate, weight_decay, momentum
        self.decay_steps = decay_steps
        self.params = list(network.parameters())
        self.traces = [torch.zeros_like(p) for p in self.params]
        self.taken, self.threads = 0, THREADS
        self.counter = torch.zeros(1, dtype=torch.long, device=device)
        self.order = torch.zeros(self.steps, batch_size, dtype=torch.long, device=device)
        self.totals = torch.zeros(2, device=device)
        self._forward: Callable[[], tuple[torch.Tensor, torch.Tensor]] = self._loss
        self._replay: Callable[[], None] = self._step
        if cuda:
            if compiled:
                self.compile()
            self._replay = self._captured()

    def compile(self) -> None:
        """Have `torch.compile` make the forward and the backward pass, also on a CPU."""
        torch.compiler.reset()  # the same function is compiled for every network
        self._forward = torch.compile(self._loss)

    def _captured(self) -> Callable[[], None]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # JAX has threads of its own in this process.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._step()
        self.counter.zero_()
        return graph.replay

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Of uint8 images `[B, H, W, C]`, which are standardized first; float32 `[B, classes]`."""
        inputs = images.permute(0, 3, 1, 2).float()
        mean = inputs.mean((1, 2, 3), keepdim=True)
        deviation = inputs.std((1, 2, 3), keepdim=True, correction=0)
        inputs = (inputs - mean) / deviation.clamp(min=inputs[0].numel() ** -0.5)
        inputs = inputs.contiguous(memory_format=self.memory_format)
        half = self.precision == "bfloat16"
        with torch.autocast(self.device, torch.bfloat16, enabled=half, cache_enabled=False):
            return self.network(inputs).float()

    def _loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        indices = self.order.index_select(0, self.counter % self.steps)[0]
        labels = self.labels[indices]
        logits = self.logits(self.images[indices])
        return F.cross_entropy(logits, labels), (logits.argmax(-1) == labels).float().mean()

    def _step(self) -> None:
        for param in self.params:
            param.grad = None
        loss, accuracy = self._forward()
        loss.backward()
        with torch.no_grad():
            self.totals += torch.stack([loss.detach(), accuracy])
            factor = torch.exp(self.counter[0] * (math.log(0.9) / self.decay_steps))
            torch._foreach_mul_(self.params, 1 - self.decay * factor)
            # What torch.optim.SGD(fused=True) calls; the rate is a tensor for the sake of the graph.
            torch._fused_sgd_(
                self.params,
                [param.grad for param in self.params],
                self.traces,
                weight_decay=0.0,
                momentum=self.momentum,
                lr=self.rate * factor,
                dampening=0.0,
                nesterov=True,
                maximize=False,
                is_first_step=False,
            )
            self.counter += 1

    def run(self, steps: int) -> None:
        """Take steps and wait for them; a new order is drawn at the start of every epoch."""
        torch.set_num_threads(self.threads)
        for _ in range(steps):
            if self.taken % self.steps == 0:
                size = self.order.numel()
                places = torch.arange(size, device=self.device) % len(self.images)
                permutation = torch.randperm(len(self.images), device=self.device)
                self.order.copy_(permutation[places].view_as(self.order))
            self._replay()
            self.taken += 1
        if self.device == "cuda":
            torch.cuda.synchronize()


def fastest(make: Callable[[bool], Training], formats: Sequence[bool], steps: int = 5) -> Training:
    """The fastest way to train on this CPU: by the best of three turns, after one step of warm-up.

    Args:
      make: from `channels_last` to a training.
      formats: the values of `channels_last` to try, each with one thread and with all: threads that
        wait for each other cost small networks more than they gain.
      steps: of a turn.
    """
    candidates = []
    for channels_last in formats:
        for threads in sorted({1, THREADS}):
            candidates.append(make(channels_last))
            candidates[-1].threads = threads
            candidates[-1].run(1)
    best = np.full(len(candidates), np.inf)
    for _ in range(3):
        for i, training in enumerate(candidates):
            start = time.perf_counter()
            training.run(steps)
            best[i] = min(best[i], time.perf_counter() - start)
    return candidates[int(best.argmin())]
