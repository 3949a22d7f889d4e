"""A stand-in for slicer.parameterNodeWrapper, which slicer-core lacks.

It stores parameters in the node as Slicer does, so a scene saved here opens there. Left out: lists, dicts, tuples,
prefixes, GUI creation. Wrappers read the node each time instead of caching.
"""
from .gui import GuiConnector
from .pack import is_pack as isParameterPack
from .pack import parameterPack
from .validators import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
)
from .wrapper import (
    SlicerParameterNamePropertyName,
    findChildWidgetForParameter,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

__all__ = ["Choice", "Decimals", "Default", "Exclude", "GuiConnector", "IsInstance", "Maximum", "Minimum", "NotNone",
           "SingleStep", "SlicerParameterNamePropertyName", "Validator", "WithinRange", "findChildWidgetForParameter",
           "isParameterNodeWrapper", "isParameterPack", "parameterNodeWrapper", "parameterPack"]
