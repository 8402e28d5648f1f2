"""Names that the Scipion side shares: variables, folders of a run, attribute columns."""

VAEGAN_HOME = "VAEGAN_HOME"
VAEGAN_ENV_ACTIVATION = "VAEGAN_ENV_ACTIVATION"
VAEGAN_PYTHON = "VAEGAN_PYTHON"
VAEGAN_TORCH_SPEC = "VAEGAN_TORCH_SPEC"

PACKAGE = "vaegan"
ENV_VERSION = "0.2"  # raise it when engine/requirements.txt changes
ENV_NAME = f"{PACKAGE}-{ENV_VERSION}"
CONDA_FLAG = "conda-env-ready"
VENV_FLAG = "venv-ready"
CHOSEN_TORCH_SPEC = ""  # empty: the build that fits the machine
CONDA_PYTHON = "3.12"
VENV_PYTHONS = ("python3.12", "python3.11", "python3.10", "python3.13", "python3")

PROGRAM_NAME = "VAE-GAN"  # progName of flexible particles

# Inside a protocol's extra folder
PARTICLES_STAR = "particles.star"
RUN_DIR = "run"
EMBEDDING_DIR = "embedding"
CLUSTERS_DIR = "clusters"
TRAVERSAL_DIR = "traversal"
HALVES_DIR = "halves"
STATES_DIR = "states"
FULLRES_DIR = "fullres"
CLASSES_DIR = "classes"
CONSENSUS_DIR = "consensus"
EVALUATION_DIR = "evaluation"
REFERENCES_DIR = "references"
LABELS_CSV = "labels.csv"
MASK_MRC = "mask.mrc"
SELECTED_IDS_TXT = "selected_ids.txt"
SELECTED_STAR = "selected.star"
