# What `import sparsify` offers, and where it lives; `__init__.py` reads it here, too.
from sparsify.artifact.artifact import load_model as load_model
from sparsify.artifact.saving import save_model as save_model
from sparsify.errors import SparsifyError as SparsifyError
from sparsify.models.registry import build_model as build_model
from sparsify.optim.adabreg import AdaBreg as AdaBreg
from sparsify.optim.clipping import clip_grad_norm_ as clip_grad_norm_
from sparsify.optim.lambda_rules import AdaptiveLambda as AdaptiveLambda
from sparsify.optim.lambda_rules import FixedLambda as FixedLambda
from sparsify.optim.lambda_rules import QuantileLambda as QuantileLambda
from sparsify.optim.linbreg import LinBreg as LinBreg
from sparsify.optim.proximal import ProxSGD as ProxSGD
from sparsify.optim.regularizers import L1 as L1
from sparsify.optim.regularizers import GroupL1L2 as GroupL1L2
from sparsify.optim.regularizers import parameter_groups as parameter_groups
from sparsify.recipe.recipe import load_recipe as load_recipe
from sparsify.sparsity.table import sparsity_table as sparsity_table
