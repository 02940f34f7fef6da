"""Methods by name, and where they are; importing this module takes no torch."""

from sparsify.errors import SparsifyError, did_you_mean

# In the order in which charts give them colours; from the eleventh on they take what is free.
METHODS = {
    "adabreg": "sparsify.methods.bregman:AdaBregMethod",
    "linbreg": "sparsify.methods.bregman:LinBregMethod",
    "gmp": "sparsify.methods.magnitude:GMP",
    "one-shot": "sparsify.methods.magnitude:OneShot",
    "rigl": "sparsify.methods.rigl:RigL",
    "rewa": "sparsify.methods.rewa:ReWA",
    "prescribed-l1": "sparsify.methods.prescribed_l1:PrescribedL1",
    "adabreg-fixed": "sparsify.methods.fixed_lambda:AdaBregFixed",
    "linbreg-fixed": "sparsify.methods.fixed_lambda:LinBregFixed",
    "prox-sgd": "sparsify.methods.proximal:ProxSGDMethod",
    "granet": "sparsify.methods.granet:GraNet",
    "acdc": "sparsify.methods.acdc:ACDC",
    "str": "sparsify.methods.str:STR",
    "snip": "sparsify.methods.snip:SNIP",
    "dense": "sparsify.methods.dense:Dense",
}


def method_names() -> list[str]:
    """The registered methods."""
    return list(METHODS)


def check_method(name: str) -> None:
    """Refuses a name that no method has.

    Raises:
        SparsifyError: It is none.
    """
    if name not in METHODS:
        raise SparsifyError(f"unknown method '{name}': {did_you_mean(name, METHODS)}")
