"""Arrays with geometry, tasks, parameters and their registry; no MRML, Qt, HTTP or files.

Names that task files use are importable from here.
"""

from .context import Context
from .data import Display, Plot, Points, Segment, Segmentation, Sequence, Series, Table, Text, Volume
from .errors import (
    Cancelled,
    InputError,
    MedImgAIError,
    MissingPackageError,
    ModelError,
    OutputError,
    ParameterError,
    ResourceError,
    WorkerDied,
)
from .geometry import Geometry
from .parameters import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    IntegerParameter,
    Parameter,
    RangeParameter,
    TextParameter,
)
from .ports import (
    KSpacePort,
    PlotPort,
    PointsPort,
    Port,
    ProjectionsPort,
    SegmentationPort,
    SequencePort,
    TablePort,
    TextPort,
    TransformPort,
    VolumePort,
)
from .raw import KSpace, Projections, ScanGeometry
from .registry import Registry, registry
from .task import Task
from .terminology import Code, Terminology
from .transforms import (
    BSplineTransform,
    CompositeTransform,
    DisplacementTransform,
    LinearTransform,
    Transform,
)

__all__ = [name for name in dir() if name[0].isupper()] + ["registry"]
