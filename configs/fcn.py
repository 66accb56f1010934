"""FCN."""
from ssm_jax import config as base
def get_config(variant=""):
    return base.default()
