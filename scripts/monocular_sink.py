"""Copy a flex-s so that its multi-view bias sink is the monocular one: `flexavatar evaluate` then measures the latter.

python scripts/monocular_sink.py flex-s output/monocular
flexavatar evaluate --synthetic --quality instant --model output/monocular -o output/monocular.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from flexavatar.model.decoder import BiasSink
from flexavatar.model.pretrained import from_pretrained, save_pretrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder, or name of a model that comes with this package")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    model = from_pretrained(args.model)
    sinks, names = model.decoder.context.bias_sinks.weight, get_args(BiasSink)
    sinks.data[names.index("multiview")] = sinks.data[names.index("monocular")]
    save_pretrained(model, args.output)


if __name__ == "__main__":
    main()
