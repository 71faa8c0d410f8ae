"""The models: package, name, and how each is made and called. Imports happen when a test runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import taylortorch as tt

from .harness import Row

# --- transformers ---------------------------------------------------------------------------------

TINY = {
    "vocab_size": 11,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
EMBEDDED, PICTURE = (2, 5, 16), (2, 3, 8, 8)


def hugging(name: str, **config: Any) -> Callable:
    def make(package: Any) -> nn.Module:
        stem = name
        for ending in ("Model", "ForCausalLM", "Encoder"):
            stem = stem.removesuffix(ending)
        return getattr(package, name)(getattr(package, f"{stem}Config")(**config))

    return make


def embedded(model: Any, x: Any) -> Any:
    return model(inputs_embeds=x).last_hidden_state


def pixels(model: Any, x: Any) -> Any:
    return model(pixel_values=x).last_hidden_state


def next_token_loss(model: Any, x: Any) -> Any:
    return model(inputs_embeds=x, labels=torch.arange(10).reshape(2, 5)).loss


GROUPED = {**TINY, "num_key_value_heads": 1}
LANGUAGE: dict[str, tuple] = {
    "BertModel": (TINY, 1e-8),
    "GPT2Model": (
        {"vocab_size": 11, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2},
        1e-8,
    ),
    # root mean squares, rotary angles or softmax in single precision, whatever the dtype
    "LlamaModel": (GROUPED, 1e-5),
    "Qwen2Model": (GROUPED, 1e-5),
    "MixtralModel": ({**GROUPED, "num_local_experts": 3, "experts_implementation": "eager"}, 1e-5),
    "GPTNeoXModel": (TINY, 1e-5),
    "MambaModel": (
        {"vocab_size": 11, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2},
        1e-5,
    ),
    "T5EncoderModel": (
        {"vocab_size": 11, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
        1e-5,
    ),
}
ROWS: list[Row] = [
    Row("transformers", name, hugging(name, **config), EMBEDDED, embedded, tolerance=tolerance)
    for name, (config, tolerance) in LANGUAGE.items()
]
IMAGE = {"image_size": 8, "patch_size": 4, **{k: v for k, v in TINY.items() if k != "vocab_size"}}
del IMAGE["max_position_embeddings"]
ROWS += [
    Row(
        "transformers",
        "BertModel, eager attention",
        hugging("BertModel", **TINY, attn_implementation="eager"),
        EMBEDDED,
        embedded,
        train=True,
    ),
    Row(
        "transformers",
        "LlamaForCausalLM, loss",
        hugging("LlamaForCausalLM", **GROUPED),
        EMBEDDED,
        next_token_loss,
        tolerance=1e-5,
    ),
    Row("transformers", "ViTModel", hugging("ViTModel", **IMAGE), PICTURE, pixels),
    Row("transformers", "Dinov2Model", hugging("Dinov2Model", **IMAGE), PICTURE, pixels),
    Row(
        "transformers",
        "SwinModel",
        hugging(
            "SwinModel",
            image_size=16,
            patch_size=2,
            embed_dim=8,
            depths=[1, 2],
            num_heads=[1, 2],
            window_size=2,
        ),
        (1, 3, 16, 16),
        pixels,
    ),
]

# --- einops ---------------------------------------------------------------------------------------


def rearranged(einops: Any) -> nn.Module:
    from einops.layers.torch import EinMix, Rearrange, Reduce

    return nn.Sequential(
        Rearrange("b (h w) -> b h w", h=2),
        EinMix("b h w -> b w c", weight_shape="h w c", bias_shape="c", h=2, w=3, c=5),
        nn.GELU(),
        Reduce("b w c -> b c", "mean"),
    )


def packed(einops: Any) -> Callable:
    def model(x: Any) -> Any:
        together, shapes = einops.pack([x, einops.repeat(x.sin(), "a b -> a b k", k=2)], "a *")
        first, second = einops.unpack(together.exp(), shapes, "a *")
        return einops.einsum(first, second, "a b, c b k -> a c k")

    return model


ROWS += [
    Row("einops", "Rearrange, EinMix, Reduce", rearranged, (4, 6)),
    Row("einops", "pack, unpack, repeat, einsum", packed, (4, 3)),
    Row(
        "einops",
        "reduce by max",
        lambda e: lambda x: e.reduce(x**2, "(a b) c -> b c", "max", a=2),
        (4, 3),
    ),
]

# --- torchdiffeq ----------------------------------------------------------------------------------


class Flow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, t: Any, y: Any) -> Any:
        return self.net(y) * torch.cos(t)


def solved(**options: Any) -> Callable:
    def use(model: Any, y0: Any) -> Any:
        import torchdiffeq

        return torchdiffeq.odeint(model, y0, torch.linspace(0, 1, 4), **options)

    return use


def solved_to(model: Any, t: Any) -> Any:
    import torchdiffeq

    times = torch.cat([torch.zeros(1), t]).cumsum(0)
    return torchdiffeq.odeint(model, torch.ones(2, 3), times, method="rk4")


def assigned(scratch: Any, value: Any, index: Any) -> Any:
    scratch = scratch.clone()
    scratch[index] = value
    return scratch


def adaptive(patch: pytest.MonkeyPatch) -> None:
    """Its ``Function`` writes through ``.data``; its step sizes are computed under ``no_grad``."""
    from torchdiffeq._impl import rk_common

    tt.register_rule(rk_common._UncheckedAssign, composite=assigned)
    by_value = tt.register_rule(
        rk_common._optimal_step_size,
        evaluate=lambda func, args, kwargs: func(*(getattr(x, "value", x) for x in args)),
    )
    patch.setattr(rk_common, "_optimal_step_size", by_value)


FIXED = ("euler", "midpoint", "heun3", "rk4", "explicit_adams")
ROWS += [
    Row("torchdiffeq", name, lambda package: Flow(), (2, 3), solved(method=name)) for name in FIXED
]
ROWS += [
    Row(
        "torchdiffeq",
        "rk4, in the times",
        lambda package: Flow(),
        (3,),
        solved_to,
        low=0.2,
        high=0.3,
    ),
    *(
        Row(
            "torchdiffeq",
            f"{name}, with two rules",
            lambda package: Flow(),
            (2, 3),
            solved(method=name, rtol=1e-6, atol=1e-6, options={"first_step": 0.1}),
            rules=adaptive,
        )
        for name in ("dopri5", "bosh3")
    ),
]

# --- gpytorch -------------------------------------------------------------------------------------


def between(kernel: Any, x: Any) -> Any:
    return kernel(x, torch.linspace(-1, 1, 15).reshape(5, 3)).to_dense()


def within(kernel: Any, x: Any) -> Any:
    return kernel(x).to_dense()


def kernel(name: str, **options: Any) -> Callable:
    return lambda kernels: getattr(kernels, name)(**options)


KERNELS: dict[str, dict] = {
    "RBFKernel": {},
    "MaternKernel": {"nu": 2.5},
    "PeriodicKernel": {},
    "RQKernel": {},
    "LinearKernel": {},
    "PolynomialKernel": {"power": 2},
    "SpectralMixtureKernel": {"num_mixtures": 2, "ard_num_dims": 3},
}
ROWS += [
    Row("gpytorch.kernels", name, kernel(name, **options), (4, 3), between)
    for name, options in KERNELS.items()
]
ROWS += [
    Row(
        "gpytorch.kernels",
        "ScaleKernel of a sum of products",
        lambda k: k.ScaleKernel(k.RBFKernel() * k.LinearKernel() + k.PeriodicKernel()),
        (4, 3),
        within,
    ),
]


def process(gpytorch: Any) -> nn.Module:
    class Process(gpytorch.models.ExactGP):
        def __init__(self) -> None:
            x, y = torch.linspace(-1, 1, 18).reshape(6, 3), torch.linspace(-1, 2, 6)
            super().__init__(x, y, gpytorch.likelihoods.GaussianLikelihood())
            self.mean_module = gpytorch.means.LinearMean(3)
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

        def forward(self, x: Any) -> Any:
            mean, covariance = self.mean_module(x), self.covar_module(x)
            return gpytorch.distributions.MultivariateNormal(mean, covariance)

    return Process()


def posterior(model: Any, x: Any) -> Any:
    import gpytorch

    settings = gpytorch.settings
    with settings.detach_test_caches(False), settings.skip_posterior_variances(True):
        # the cached solution belongs to the parameters that made it
        return model.train().eval()(x).mean


def posterior_moments(model: Any, x: Any) -> Any:
    import gpytorch

    with gpytorch.settings.detach_test_caches(False):
        moments = model.train().eval()(x)
        return moments.mean, moments.covariance_matrix


def solve(representation_tree: Any, has_left: bool, *args: Any) -> Any:
    right, *matrix = args
    return torch.linalg.solve(representation_tree(*matrix).to_dense(), right)


def solving(patch: pytest.MonkeyPatch) -> None:
    from linear_operator.functions._solve import Solve

    tt.register_rule(Solve, composite=solve)


ROWS += [
    Row("gpytorch", "ExactGP, posterior mean", process, (4, 3), posterior),
    Row(
        "gpytorch",
        "ExactGP, posterior mean and covariance, with one rule",
        process,
        (4, 3),
        posterior_moments,
        rules=solving,
    ),
]

# --- botorch --------------------------------------------------------------------------------------


def on_its_domain(function: Any, x: Any) -> Any:
    lower, upper = function.bounds
    return function.evaluate_true(lower + (upper - lower) * x)


FUNCTIONS = {
    "Ackley": 2,
    "Branin": 2,
    "Griewank": 2,
    "Hartmann": 6,
    "Levy": 2,
    "Michalewicz": 2,
    "Rastrigin": 2,
    "Rosenbrock": 2,
    "Shekel": 4,
}
ROWS += [
    Row(
        "botorch.test_functions",
        name,
        lambda functions, name=name: getattr(functions, name)(),
        (4, size),
        on_its_domain,
        low=0.2,
        high=0.8,
    )
    for name, size in FUNCTIONS.items()
]

# --- flows ----------------------------------------------------------------------------------------


def density(model: Any, x: Any) -> Any:
    return model(torch.linspace(-1, 1, 8).reshape(4, 2)).log_prob(x)


FLOWS = ("MAF", "NSF", "NICE", "RealNVP", "NCSF")
ROWS += [
    Row(
        "zuko.flows",
        name,
        lambda flows, name=name: getattr(flows, name)(3, 2, transforms=2, hidden_features=(16,)),
        (4, 3),
        density,
    )
    for name in FLOWS
]
ROWS += [
    Row(
        "zuko.mixtures",
        "GMM",
        lambda mixtures: mixtures.GMM(3, 2, components=2, hidden_features=(16,)),
        (4, 3),
        density,
    ),
]


def log_prob(model: Any, x: Any) -> Any:
    return model.log_prob(x)


def flow(*transforms: Callable) -> Callable:
    def make(normflows: Any) -> nn.Module:
        base = normflows.distributions.DiagGaussian(2)
        return normflows.NormalizingFlow(base, [t(normflows) for t in transforms])

    return make


def coupling(n: Any) -> Any:
    return n.flows.AffineCouplingBlock(n.nets.MLP([1, 8, 2], init_zeros=False))


ROWS += [
    Row(
        "normflows",
        "affine coupling (RealNVP)",
        flow(coupling, lambda n: n.flows.Permute(2, mode="swap"), coupling),
        (5, 2),
        log_prob,
        train=True,
    ),
    Row(
        "normflows",
        "MaskedAffineAutoregressive",
        flow(lambda n: n.flows.MaskedAffineAutoregressive(2, 8)),
        (5, 2),
        log_prob,
    ),
    Row(
        "normflows",
        "AutoregressiveRationalQuadraticSpline",
        flow(lambda n: n.flows.AutoregressiveRationalQuadraticSpline(2, 1, 8)),
        (5, 2),
        log_prob,
    ),
    Row(
        "normflows",
        "Planar and Radial",
        flow(lambda n: n.flows.Planar((2,)), lambda n: n.flows.Radial((2,))),
        (5, 2),
        lambda model, x: model.forward_and_log_det(x),
    ),
]


def invertible(block: str) -> Callable:
    def make(framework: Any) -> nn.Module:
        import FrEIA.modules as blocks

        def subnet(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(nn.Linear(inputs, 8), nn.Softplus(), nn.Linear(8, outputs))

        network = framework.SequenceINN(4)
        for _ in range(2):
            network.append(getattr(blocks, block), subnet_constructor=subnet)
        return network

    return make


ROWS += [
    Row("FrEIA.framework", name, invertible(name), (5, 4))
    for name in ("AllInOneBlock", "GLOWCouplingBlock")
]
ROWS += [
    Row(
        "FrEIA.framework",
        "AllInOneBlock, inverse",
        invertible("AllInOneBlock"),
        (5, 4),
        lambda model, x: model(x, rev=True),
    ),
]

# --- e3nn -----------------------------------------------------------------------------------------

IRREPS = "2x0e + 2x1o + 1x2e"
WIDTH = 2 + 2 * 3 + 5


def gate(e3nn: Any) -> nn.Module:
    return e3nn.Gate("2x0e", [torch.tanh], "3x0e", [torch.sigmoid], "2x1o + 1x2e")


ROWS += [
    Row(
        "e3nn.o3",
        "spherical harmonics to degree 3",
        lambda o3: lambda x: o3.spherical_harmonics([0, 1, 2, 3], x, True),
        (5, 3),
    ),
    Row("e3nn.o3", "Linear", lambda o3: o3.Linear(IRREPS, IRREPS), (4, WIDTH)),
    Row(
        "e3nn.o3",
        "FullyConnectedTensorProduct",
        lambda o3: o3.FullyConnectedTensorProduct(IRREPS, IRREPS, IRREPS),
        (4, WIDTH),
        lambda model, x: model(x, x),
    ),
    Row("e3nn.nn", "Gate", gate, (4, WIDTH + 3)),
    Row("e3nn.nn", "BatchNorm", lambda e: e.BatchNorm(IRREPS), (4, WIDTH), train=True),
    Row(
        "e3nn.math",
        "soft_one_hot_linspace, Bessel",
        lambda m: lambda x: m.soft_one_hot_linspace(x.norm(dim=-1), 0.0, 3.0, 5, "bessel", True),
        (5, 3),
    ),
]

# --- torch_geometric ------------------------------------------------------------------------------

EDGES = torch.tensor([[0, 1, 1, 2, 3, 3, 4, 5, 5, 0], [1, 0, 2, 1, 2, 4, 3, 4, 0, 5]])
GRAPHS = torch.tensor([0, 0, 0, 1, 1, 1])
PAIRS = torch.tensor([[i, j] for i in range(6) for j in range(6) if i != j and i // 3 == j // 3]).T


def on_edges(model: Any, x: Any) -> Any:
    return model(x, EDGES)


def distances(positions: Any, batch: Any) -> Any:
    return PAIRS, (positions[PAIRS[0]] - positions[PAIRS[1]]).norm(dim=-1)


LAYERS: dict[str, Callable] = {
    "GCNConv": lambda g: g.GCNConv(4, 3),
    "GATv2Conv": lambda g: g.GATv2Conv(4, 3, heads=2),
    "SAGEConv": lambda g: g.SAGEConv(4, 3),
    "GINConv": lambda g: g.GINConv(nn.Sequential(nn.Linear(4, 3), nn.Tanh())),
    "ChebConv": lambda g: g.ChebConv(4, 3, K=3),
    "TransformerConv": lambda g: g.TransformerConv(4, 3),
}
ROWS += [Row("torch_geometric.nn", name, make, (6, 4), on_edges) for name, make in LAYERS.items()]
ROWS += [
    Row(
        "torch_geometric.nn",
        "GAT, two layers with dropout",
        lambda g: g.GAT(4, 8, 2, 3, dropout=0.2),
        (6, 4),
        on_edges,
        train=True,
    ),
    Row(
        "torch_geometric.nn",
        "GraphNorm and Set2Set",
        lambda g: nn.ModuleList([g.GraphNorm(4), g.Set2Set(4, 2)]),
        (6, 4),
        lambda model, x: model[1](model[0](x, GRAPHS), GRAPHS),
    ),
    Row(
        "torch_geometric.nn",
        "SchNet, energy of the positions",
        lambda g: g.SchNet(8, 8, 2, 6, 10.0, interaction_graph=distances),
        (6, 3),
        lambda model, x: model(torch.tensor([1, 6, 8, 1, 7, 6]), x, GRAPHS),
    ),
]

# --- torchvision, timm ----------------------------------------------------------------------------

PHOTO = (2, 3, 32, 32)


def convnext(models: Any) -> nn.Module:
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(8, 16, 1), block(16, None, 1)], num_classes=3)


ROWS += [
    Row("torchvision.models", "resnet18", lambda m: m.resnet18(num_classes=3), PHOTO),
    Row(
        "torchvision.models",
        "DenseNet",
        lambda m: m.DenseNet(4, (1, 1, 1, 1), 8, num_classes=3),
        (3, 3, 64, 64),
        train=True,
        tolerance=1e-7,
    ),
    Row("torchvision.models", "ConvNeXt", convnext, PHOTO, train=True),
    Row(
        "torchvision.models",
        "VisionTransformer",
        lambda m: m.VisionTransformer(32, 16, 2, 2, 16, 24, num_classes=3),
        PHOTO,
    ),
    Row(
        "torchvision.models",
        "SwinTransformer",
        lambda m: m.SwinTransformer([4, 4], 12, [1, 1], [1, 2], [4, 4], num_classes=3),
        PHOTO,
    ),
]


def timm(name: str, **options: Any) -> Callable:
    return lambda package: package.create_model(name, num_classes=3, **options)


SMALL_VIT = {"img_size": 32, "depth": 2}
ROWS += [
    Row("timm", "resnet10t", timm("resnet10t"), PHOTO),
    Row("timm", "convnext_atto", timm("convnext_atto"), PHOTO),
    Row("timm", "mobilenetv3_small_050", timm("mobilenetv3_small_050"), PHOTO),
    Row("timm", "vit_tiny", timm("vit_tiny_patch16_224", **SMALL_VIT), PHOTO, train=True),
    Row(
        "timm",
        "beit_base",
        timm("beit_base_patch16_224", **SMALL_VIT, embed_dim=24, num_heads=2),
        PHOTO,
    ),
    Row(
        "timm",
        "eva02_tiny",
        timm("eva02_tiny_patch14_224", img_size=28, depth=1),
        (1, 3, 28, 28),
    ),
]

# --- kornia ---------------------------------------------------------------------------------------

FILTERS: dict[str, Callable] = {
    "gaussian_blur2d": lambda k: lambda x: k.filters.gaussian_blur2d(x, (3, 3), (1.0, 1.0)).exp(),
    "sobel": lambda k: lambda x: k.filters.sobel(x),
    "bilateral_blur": lambda k: lambda x: k.filters.bilateral_blur(x, (3, 3), 0.1, (1.0, 1.0)),
    "rgb_to_lab": lambda k: lambda x: k.color.rgb_to_lab(x),
    "harris_response": lambda k: lambda x: k.feature.harris_response(x),
    "ssim": lambda k: lambda x: k.metrics.ssim(x, x.flip(-1), 5),
    "axis_angle_to_rotation_matrix": lambda k: (
        lambda x: k.geometry.axis_angle_to_rotation_matrix(x.reshape(-1, 3))
    ),
}
ROWS += [
    Row("kornia", name, make, (1, 3, 6, 6), low=0.1, high=0.9) for name, make in FILTERS.items()
]

# --- transformers of other hands ------------------------------------------------------------------


def encoder(**options: Any) -> Callable:
    return lambda x: x.ContinuousTransformerWrapper(
        dim_in=4,
        dim_out=4,
        max_seq_len=8,
        attn_layers=x.Encoder(dim=16, depth=1, heads=2, **options),
    )


# attention weights in single precision
ATTENTION: dict[str, dict] = {
    "Encoder": {},
    "Encoder, rotary, GLU, RMSNorm": {"rotary_pos_emb": True, "ff_glu": True, "use_rmsnorm": True},
    "Encoder, macaron": {"macaron": True},
    "Encoder, ALiBi, two residual streams": {"alibi_pos_bias": True, "num_residual_streams": 2},
}
ROWS += [
    Row("x_transformers", name, encoder(**options), (2, 5, 4), tolerance=1e-5, train=True)
    for name, options in ATTENTION.items()
]
VIT = {"image_size": 16, "patch_size": 8, "num_classes": 3, "dim": 16, "depth": 2, "heads": 2}
ROWS += [
    Row(
        "vit_pytorch",
        "ViT",
        lambda v: v.ViT(**VIT, mlp_dim=24, dropout=0.1, emb_dropout=0.1),
        (2, 3, 16, 16),
        train=True,
    ),
    Row("vit_pytorch", "SimpleViT", lambda v: v.SimpleViT(**VIT, mlp_dim=24), (2, 3, 16, 16)),
    Row("vit_pytorch.deepvit", "DeepViT", lambda v: v.DeepViT(**VIT, mlp_dim=24), (2, 3, 16, 16)),
    Row(
        "vit_pytorch.look_vit",
        "LookViT",
        lambda v: v.LookViT(
            dim=16,
            image_size=16,
            num_classes=3,
            depth=1,
            patch_size=8,
            highres_patch_size=4,
            heads=2,
            dim_head=8,
            mlp_factor=2,
            cross_attn_heads=2,
            cross_attn_dim_head=8,
        ),
        (1, 3, 16, 16),
        train=True,
    ),
]

ROWS += [
    Row(
        "perceiver_pytorch",
        "Perceiver",
        lambda p: p.Perceiver(
            input_channels=3,
            input_axis=1,
            num_freq_bands=2,
            max_freq=4.0,
            depth=1,
            num_latents=4,
            latent_dim=8,
            cross_heads=1,
            latent_heads=2,
            cross_dim_head=4,
            latent_dim_head=4,
            num_classes=3,
        ),
        (2, 6, 3),
    ),
    Row("linformer", "Linformer", lambda m: m.Linformer(16, 6, depth=1, k=3, heads=2), (2, 6, 16)),
]

# --- the rest -------------------------------------------------------------------------------------


def controlled(torchcde: Any) -> nn.Module:
    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 12)

        def forward(self, t: Any, z: Any) -> Any:
            return torch.tanh(self.linear(z)).view(*z.shape[:-1], 4, 3)

    return Field()


def spline(x: Any) -> Any:
    import torchcde

    return torchcde.CubicSpline(torchcde.natural_cubic_coeffs(x))


def driven(model: Any, x: Any) -> Any:
    import torchcde

    return torchcde.cdeint(
        X=spline(x),
        func=model,
        z0=x[:, 0, :1].expand(2, 4),
        t=torch.tensor([0.0, 2.0, 5.0]),
        adjoint=False,
        method="rk4",
        options={"step_size": 1.0},
    )


ROWS += [
    Row(
        "siren_pytorch",
        "SirenNet",
        lambda s: s.SirenNet(dim_in=2, dim_hidden=16, dim_out=1, num_layers=3, w0_initial=30.0),
        (7, 2),
    ),
    Row("torchcde", "cdeint along a CubicSpline", controlled, (2, 6, 3), driven),
    Row(
        "torchcde",
        "hermite_cubic_coefficients",
        lambda t: t.hermite_cubic_coefficients_with_backward_differences,
        (2, 6, 3),
        lambda model, x: model(x).exp(),
    ),
    Row("ncps.torch", "CfC", lambda n: n.CfC(3, 8), (2, 5, 3)),
    Row("ncps.torch", "LTC", lambda n: n.LTC(3, 6), (2, 4, 3)),
    Row("roma", "rotvec_to_rotmat", lambda r: r.rotvec_to_rotmat, (4, 3)),
    Row("roma", "special_gramschmidt", lambda r: r.special_gramschmidt, (4, 3, 2)),
]


def segmenter(name: str, **options: Any) -> Callable:
    return lambda nets: getattr(nets, name)(
        spatial_dims=2, in_channels=1, out_channels=2, **options
    )


ROWS += [
    Row(
        "monai.networks.nets",
        "UNet",
        segmenter("UNet", channels=(4, 8), strides=(2,), num_res_units=1),
        (2, 1, 8, 8),
        train=True,
    ),
    Row(
        "monai.networks.nets",
        "SegResNet",
        segmenter("SegResNet", init_filters=8, blocks_down=(1, 1), blocks_up=(1,)),
        (1, 1, 16, 16),
    ),
    Row(
        "monai.networks.nets",
        "AttentionUnet",
        segmenter("AttentionUnet", channels=(4, 8), strides=(2,)),
        (2, 1, 8, 8),
    ),
]
ROWS += [
    Row(
        "segmentation_models_pytorch",
        "Unet on resnet18",
        lambda s: s.Unet("resnet18", encoder_weights=None, classes=2),
        (1, 3, 32, 32),
        order=2,
    ),
]
