"""The thesis's algorithms 3, 6, 7 and 8 once more, slowly and literally, as the truth of ``test_parity_steps``.

Everything in float64 by sums over pixels and frequencies: no FFT of images, no convolution, no sampling and no
optimiser of a library. Only random numbers (drawn in the order of the algorithm) and automatic
derivatives of these formulas are torch's. Weights are read from a network in the order of its layers.
"""
import math
from functools import lru_cache

import torch


def lrelu(x):
    return torch.where(x > 0, x, 0.2 * x)


def shifted(x, dy, dx, cyclic):
    """``y[i, j] = x[i + dy, j + dx]``, cyclic or zero outside."""
    y = x.roll((-dy, -dx), (2, 3))
    if cyclic:
        return y
    h, w = x.shape[2:]
    rows = torch.tensor([0 <= i + dy < h for i in range(h)], dtype=x.dtype)
    columns = torch.tensor([0 <= j + dx < w for j in range(w)], dtype=x.dtype)
    return y * rows[:, None] * columns[None, :]


def convolution(x, weight, bias, cyclic):
    """``out[o] = b[o] + sum_c sum_dy sum_dx w[o, c, dy, dx] x[c, i + dy, j + dx]``, same size."""
    half = weight.shape[-1] // 2
    out = bias[None, :, None, None]
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            out = out + torch.einsum("oc,nchw->nohw", weight[:, :, dy + half, dx + half], shifted(x, dy, dx, cyclic))
    return out


def gabor(x, parameters):
    """Depthwise filters of equation 41, 7 x 7, cyclic."""
    theta, sigma, wavelength, gamma, psi = parameters
    channels = torch.arange(len(theta)) // (len(theta) // x.shape[1])
    total = 0
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            xp = dx * torch.cos(theta) + dy * torch.sin(theta)
            yp = -dx * torch.sin(theta) + dy * torch.cos(theta)
            g = torch.exp(-(xp**2 + gamma**2 * yp**2) / (2 * sigma**2)) * torch.cos(2 * math.pi * xp / wavelength + psi)
            total = total + g[:, None, None] * shifted(x, dy, dx, True)[:, channels]
    return total


def halved(x, kind):
    """The strongest polyphase component of each image, or the maximum of each 2 x 2 px."""
    if kind == "maxpool":
        return torch.maximum(torch.maximum(x[:, :, ::2, ::2], x[:, :, ::2, 1::2]),
                             torch.maximum(x[:, :, 1::2, ::2], x[:, :, 1::2, 1::2]))
    if kind == "blur_aps":
        x = sum(shifted(x, dy, dx, True) for dy in (0, 1) for dx in (0, 1)) / 4
    kept = []
    for image in x:
        parts = [image[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        norms = [float((part.detach() ** 2).sum()) for part in parts]
        kept.append(parts[norms.index(max(norms))])
    return torch.stack(kept)


def polar(x):
    """Row i, column j: the image at radius (i + 1/2) / 2 px and angle 2 pi j / d about its centre; bilinear."""
    d = x.shape[-1]
    places = []
    for i in range(d):
        for j in range(d):
            px = d // 2 + (i + 0.5) / 2 * math.cos(2 * math.pi * j / d)
            py = d // 2 + (i + 0.5) / 2 * math.sin(2 * math.pi * j / d)
            places.append((min(max(px, 0.0), d - 1.0), min(max(py, 0.0), d - 1.0)))
    px, py = torch.tensor(places).T
    x0, y0 = px.long().clamp(max=d - 2), py.long().clamp(max=d - 2)
    fx, fy = px - x0, py - y0
    values = ((1 - fy) * ((1 - fx) * x[..., y0, x0] + fx * x[..., y0, x0 + 1])
              + fy * ((1 - fx) * x[..., y0 + 1, x0] + fx * x[..., y0 + 1, x0 + 1]))
    return values.reshape(x.shape)


def trunk(x, weights, model, is_polar):
    """Feature maps before the global pooling; ``weights`` is consumed."""
    cyclic = model.downsampling != "maxpool"
    x = polar(x) if is_polar else x
    if model.first_layer == "gabor":
        x = gabor(x, [next(weights) for _ in range(5)])
    for level in range(4):
        x = lrelu(convolution(x, next(weights), next(weights), cyclic))
        x = halved(x, model.downsampling) if level < 3 else x
    return x


def pooled(features, model):
    mean = features.sum((2, 3)) / features[0, 0].numel()
    return mean if model.pooling == "mean" else torch.cat((mean, features.flatten(2).max(2).values), 1)


def linear(x, weight, bias):
    return torch.einsum("oi,...i->...o", weight, x) + bias


def critic(x, weights, model):
    """Scores and the feature maps of the perceptual loss."""
    weights = iter(weights)
    features = trunk(x, weights, model, False)
    return linear(pooled(features, model), next(weights), next(weights))[:, 0], features


def encoder(x, weights, model):
    """Mean and log-variance (and logits before them, with categories)."""
    weights = iter(weights)
    h = pooled(trunk(x, weights, model, model.polar_encoder), model)
    return linear(lrelu(linear(h, next(weights), next(weights))), next(weights), next(weights))


def dcgan(z, weights, box_px):
    """Linear, then batch norm, ReLU and a transposed 4 x 4 convolution of stride 2, three times."""
    weights = iter(weights)
    h = linear(z, next(weights), next(weights))
    start = -(-box_px // 8)
    x = h.reshape(len(z), -1, start, start)
    for _ in range(3):
        gain, offset = next(weights), next(weights)
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-5) * gain[:, None, None] + offset[:, None, None]
        x = torch.where(x > 0, x, 0 * x)
        weight, bias = next(weights), next(weights)
        side = x.shape[-1]
        out = x.new_zeros(len(z), weight.shape[1], 2 * side + 2, 2 * side + 2)
        for a in range(4):
            for b in range(4):
                put = torch.zeros_like(out)
                put[:, :, a:a + 2 * side:2, b:b + 2 * side:2] = torch.einsum("io,nihw->nohw", weight[:, :, a, b], x)
                out = out + put
        x = out[:, :, 1:-1, 1:-1] + bias[:, None, None]
    return x[:, 0, :box_px, :box_px]


def frequencies(d):
    """Half plane: (row, column, kx, ky), the way an image of real numbers needs it."""
    return [(j, i, i, j if j < d // 2 else j - d) for j in range(d) for i in range(d // 2 + 1)]


def trilinear(grid, x, y, z):
    """``grid (3, nz, ny, nx)`` at fractional nodes ``(p,)``."""
    total = 0
    x0, y0, z0 = (torch.clamp(v.detach().floor().long(), 0, n - 2) for v, n in
                  zip((x, y, z), (grid.shape[3], grid.shape[2], grid.shape[1]), strict=True))
    for c in (0, 1):
        for b in (0, 1):
            for a in (0, 1):
                weight = ((x - x0) if a else (1 - (x - x0))) * ((y - y0) if b else (1 - (y - y0))) * (
                    (z - z0) if c else (1 - (z - z0)))
                total = total + weight * grid[:, z0 + c, y0 + b, x0 + a]
    return total


def siren(z, A, weights, amplitude, d):
    """Half planes ``(n, d, d/2 + 1)``: coordinates on the rotated slice, sine layers with one FiLM layer."""
    grid, w1, b1, w2, b2, w3, b3, w4, b4, m1, c1, m2, c2 = weights
    planes = []
    for n in range(len(z)):
        gain, offset = linear(lrelu(linear(z[n], m1, c1)), m2, c2).chunk(2)
        plane = torch.zeros(d, d // 2 + 1, dtype=torch.complex128)
        inside = [(j, i, kx, ky) for j, i, kx, ky in frequencies(d) if kx**2 + ky**2 < (d / 2) ** 2]
        k = torch.stack([kx * A[n, 0] + ky * A[n, 1] for _, _, kx, ky in inside])
        sign = torch.tensor([[1.0 if p[0] > 0 else -1.0] for p in k.detach()])
        x, y, zz = (k * sign).unbind(1)
        coordinates = trilinear(grid, x, y + d // 2, zz + d // 2).T
        h = torch.sin(30 * linear(coordinates, w1, b1))
        h = torch.sin((1 + gain) * 30 * linear(h, w2, b2) + offset)
        h = torch.sin(30 * linear(h, w3, b3))
        out = amplitude * linear(h, w4, b4)
        values = torch.complex(out[:, 0], out[:, 1] * sign[:, 0])
        rows, columns = (torch.tensor([p[axis] for p in inside]) for axis in (0, 1))
        planes.append(plane.index_put((rows, columns), values))
    return torch.stack(planes)


@lru_cache
def waves(d):
    """cos and sin of ``2 pi k.(r - c) / d``, ``(frequencies, y, x)``, and the weights of ``image_of``."""
    r = torch.arange(d) - d // 2
    angles = torch.stack([2 * math.pi / d * (kx * r[None, :] + ky * r[:, None]) for _, _, kx, ky in frequencies(d)])
    return angles.cos(), angles.sin(), torch.tensor([1.0 if i in (0, d // 2) else 2.0 for _, i, _, _ in frequencies(d)])


def image_of(planes):
    """``I(r) = Re sum_k w F(k) exp(2 pi i k.(r - c) / d) / d^2``, w = 2 for pairs; c = d // 2."""
    d = planes.shape[1]
    cos, sin, w = waves(d)
    values = planes.flatten(1) * w
    return (torch.einsum("nk,kyx->nyx", values.real, cos) - torch.einsum("nk,kyx->nyx", values.imag, sin)) / d**2


def plane_of(images):
    """``F(k) = sum_r I(r) exp(-2 pi i k.(r - c) / d)`` on the half plane."""
    d = images.shape[1]
    cos, sin, _ = waves(d)
    values = torch.complex(torch.einsum("nyx,kyx->nk", images, cos), -torch.einsum("nyx,kyx->nk", images, sin))
    return values.reshape(len(images), d, d // 2 + 1)


def ctf_of(table, d, pixel_size_ang):
    """Equations 2 and 3, ``-w1 sin(chi) - w2 cos(chi)``, times -1: protein is white."""
    planes = []
    for u, v, angle_deg, kv, cs_mm, w2, phase_deg in table.tolist():
        volts = 1000 * kv
        wavelength = 12.2643247 / math.sqrt(volts * (1 + 0.978466e-6 * volts))
        plane = torch.zeros(d, d // 2 + 1)
        for j, i, kx, ky in frequencies(d):
            g2 = (kx**2 + ky**2) / (d * pixel_size_ang) ** 2
            azimuth = math.atan2(ky, kx) - math.radians(angle_deg)
            df = (u + v) / 2 + (u - v) / 2 * math.cos(2 * azimuth)
            chi = math.pi * wavelength * g2 * (df - 0.5 * wavelength**2 * g2 * cs_mm * 1e7) + math.radians(phase_deg)
            plane[j, i] = math.sqrt(1 - w2**2) * math.sin(chi) + w2 * math.cos(chi)
        planes.append(plane)
    return torch.stack(planes)


def moved(planes, shifts):
    """The content of each image by ``(x, y)`` px."""
    d = planes.shape[1]
    kx, ky = (torch.tensor([float(p[axis]) for p in frequencies(d)]) for axis in (2, 3))
    angle = (-2 * math.pi / d * (kx * shifts[:, :1] + ky * shifts[:, 1:])).reshape(planes.shape)
    return planes * torch.complex(angle.cos(), angle.sin())


def rotation_of_quaternion(q):
    """Uniform prior: ``v -> q v q*`` of a normalised quaternion, columns by the images of the axes."""
    w, x, y, z = (q / math.sqrt(float((q * q).sum()))).tolist()
    K = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return torch.eye(3) + 2 * w * K + 2 * K @ K  # Rodrigues


def turned(images, psi_deg):
    """Pixel (x, y) about the centre shows ``(x cos - y sin, x sin + y cos)`` of the image; bilinear, 0 outside."""
    d = images.shape[1]
    wide = torch.nn.functional.pad(images, (d, d, d, d))
    y, x = torch.meshgrid(torch.arange(d) - d // 2, torch.arange(d) - d // 2, indexing="ij")
    made = []
    for image, angle in zip(wide, torch.deg2rad(psi_deg), strict=True):
        px = x * torch.cos(angle) - y * torch.sin(angle) + d // 2 + d
        py = x * torch.sin(angle) + y * torch.cos(angle) + d // 2 + d
        x0, y0 = px.floor().long(), py.floor().long()
        fx, fy = px - x0, py - y0
        made.append((1 - fy) * ((1 - fx) * image[y0, x0] + fx * image[y0, x0 + 1])
                    + fy * ((1 - fx) * image[y0 + 1, x0] + fx * image[y0 + 1, x0 + 1]))
    return torch.stack(made)


def camera(zc, weights):
    """Equation 40 on ``zc[:6] + f(zc)``."""
    weights = iter(weights)
    h = linear(zc, next(weights), next(weights))
    for _ in range(2):
        first = lrelu(linear(h, next(weights), next(weights)))
        h = h + linear(first, next(weights), next(weights))
    v = zc[:, :6] + linear(h, next(weights), next(weights))
    rows = []
    for n in range(len(zc)):
        v1, v2 = v[n, :3], v[n, 3:]
        u1 = v1 / torch.sqrt((v1 * v1).sum())
        w = v2 - (u1 * v2).sum() * u1
        u2 = w / torch.sqrt((w * w).sum())
        u3 = torch.stack((u1[1] * u2[2] - u1[2] * u2[1], u1[2] * u2[0] - u1[0] * u2[2], u1[0] * u2[1] - u1[1] * u2[0]))
        rows.append(torch.stack((u1, u2, u3)))
    return torch.stack(rows)


class Adam:
    """Kingma and Ba, algorithm 1."""

    def __init__(self, parameters, lr, betas):
        self.parameters, self.lr, self.betas = parameters, lr, betas
        self.m, self.v, self.t = [0.0] * len(parameters), [0.0] * len(parameters), 0

    def step(self, gradients, factor):
        self.t += 1
        for i, (parameter, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            self.m[i] = self.betas[0] * self.m[i] + (1 - self.betas[0]) * g
            self.v[i] = self.betas[1] * self.v[i] + (1 - self.betas[1]) * g * g
            m = self.m[i] / (1 - self.betas[0] ** self.t)
            v = self.v[i] / (1 - self.betas[1] ** self.t)
            parameter.data -= factor * self.lr * m / (torch.sqrt(v) + 1e-8)


def voxel_slices(z, A, weights, amplitude, k0, radius_frac):
    """Ours (preset fast): maps ``a m softplus(4 (b0 + S b + S b_c)) / 4``, their padded transforms, trilinear."""
    base, basis = weights
    d = base.shape[-1]
    x = torch.arange(d) - d / 2
    radius = torch.sqrt(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2)
    mask = 1 / (1 + torch.exp(-2 * (d / 2 - 2 - radius)))
    ball = 1.2 / (1 + torch.exp(-(0.7 * radius_frac * d - radius))) - 0.6
    k = torch.fft.fftfreq(d, 1 / d)
    squared = k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2

    def smooth(maps):
        return torch.fft.ifftn(torch.fft.fftn(maps, dim=(-3, -2, -1)) / (1 + squared / k0**2), dim=(-3, -2, -1)).real

    density = ball + smooth(base) + smooth(basis)
    maps = amplitude * mask * torch.log(1 + torch.exp(4 * density)) / 4
    blur = torch.sinc(x / (2 * d)) ** 2
    maps = maps / (blur[:, None, None] * blur[None, :, None] * blur[None, None, :])
    size, before = 2 * d, d // 2
    padded = torch.nn.functional.pad(maps, (before,) * 6)
    transforms = torch.fft.fftn(torch.fft.ifftshift(padded, dim=(1, 2, 3)), dim=(1, 2, 3))
    planes = []
    for n in range(len(z)):
        transform = transforms[int(z[n].argmax())]
        plane = torch.zeros(d, d // 2 + 1, dtype=torch.complex128)
        inside = [(j, i, kx, ky) for j, i, kx, ky in frequencies(d) if kx**2 + ky**2 < (d / 2) ** 2]
        p = 2 * torch.stack([kx * A[n, 0] + ky * A[n, 1] for _, _, kx, ky in inside])
        low, total = p.floor().long(), 0
        for corner in range(8):
            at = low + torch.tensor([corner >> axis & 1 for axis in range(3)])
            weight = (1 - (p - at).abs()).prod(1)
            total = total + weight * transform[at[:, 2] % size, at[:, 1] % size, at[:, 0] % size]
        rows, columns = (torch.tensor([point[axis] for point in inside]) for axis in (0, 1))
        planes.append(plane.index_put((rows, columns), total))
    return torch.stack(planes)
