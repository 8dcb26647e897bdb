"""YAML that readers disagree about. Each text is a whole TrainingRun named `tricky`."""

_HEAD = "apiVersion: atoll.dev/v1alpha1\nkind: TrainingRun\n"
_METADATA = "metadata:\n  name: tricky\n"
_NEEDED = "  datasets: [{key: a.tar}]\n  publish: {model: note}\n"


def _spec(lines: str) -> str:
    return f"{_HEAD}{_METADATA}spec:\n{_NEEDED}{lines}"


def _datasets(lines: str) -> str:
    return f"{_HEAD}{_METADATA}spec:\n  publish: {{model: note}}\n  datasets:{lines}\n"


def _training(line: str) -> str:
    return _spec(f"  training:\n    {line}\n")


def _meta(lines: str) -> str:
    return f"{_HEAD}{_METADATA}{lines}spec:\n{_NEEDED}"


_BOMB = "  a: &a {x: y}\n  b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n" + "".join(
    f"  {chr(98 + n)}{n}: &{chr(99 + n)} [{', '.join([f'*{chr(98 + n)}'] * 9)}]\n" for n in range(6)
)

TRICKY: dict[str, str] = {
    "minimal": _spec(""),
    # Truth values, by YAML 1.1.
    "yes-is-true": _spec("  suspend: yes\n"),
    "off-is-false": _spec("  suspend: Off\n"),
    "y-is-true": _spec("  suspend: y\n"),
    "tRue-is-text": _spec("  suspend: tRue\n"),
    "quoted-yes-is-text": _spec('  suspend: "yes"\n'),
    "one-is-no-truth-value": _spec("  suspend: 1\n"),
    # Numbers.
    "exponent-is-an-integer": _training("steps: 1e3"),
    "fraction-with-exponent": _training("steps: 1.5e1"),
    "fraction-of-zero": _training("steps: 80.0"),
    "small-exponent": _training("steps: 1e-3"),
    "underscores": _training("steps: 1_000"),
    "hexadecimal": _training("steps: 0x10"),
    "leading-zero-is-octal": _training("steps: 010"),
    "leading-zero-with-8-is-not": _training("steps: 080"),
    "zero-o-is-octal": _training("steps: 0o17"),
    "binary": _training("steps: 0b101"),
    "plus-sign": _training("steps: +12"),
    "sexagesimal-is-text": _training("steps: 1:30"),
    "infinity": _training("steps: .inf"),
    "not-a-number": _training("steps: .nan"),
    "beyond-32-bits": _training("steps: 3000000000"),
    "beyond-64-bits": _training("steps: 123456789012345678901234567890"),
    "minus-zero": _training("seed: -0"),
    "minus-zero-float": _training("seed: -0.0"),
    "number-where-text-is-due": _training("learningRate: 1e-3"),
    "quoted-number": _training('learningRate: "1e-3"'),
    "quoted-integer": _training("steps: '500'"),
    "width-as-number": _spec("  model: {width: 1.0}\n"),
    "width-as-text": _spec("  model: {width: '1.0'}\n"),
    # Keys.
    "number-as-key": _training("hyperparameters: {1: x}"),
    "truth-value-as-key": _training("hyperparameters: {on: x}"),
    "list-as-key": _training("hyperparameters: {[a]: x}"),
    "null-as-key": _training("hyperparameters: {~: x}"),
    "explicit-key": _spec("  ? suspend\n  : true\n"),
    "quoted-key": _spec('  "suspend": true\n'),
    "key-twice": _spec("  suspend: true\n  suspend: false\n"),
    "key-twice-quoted": _spec("  suspend: true\n  'suspend': true\n"),
    "key-twice-deep": _spec("  quality: {minAP50: '0.1', minAP50: '0.2'}\n"),
    # Tags.
    "tag-str": _training("learningRate: !!str 0.02"),
    "tag-int": _training("steps: !!int '500'"),
    "tag-int-of-a-word": _training("steps: !!int many"),
    "tag-float": _training("steps: !!float 500"),
    "tag-binary": _training("learningRate: !!binary MC4wMg=="),
    "tag-of-ones-own": _training("learningRate: !rate 0.02"),
    # Anchors.
    "alias": _spec("  conversion: {classes: &c [a, b], ignore: *c}\n"),
    "alias-of-nothing": _spec("  conversion: {ignore: *c}\n"),
    "merge": _spec("  training: {<<: &t {steps: 5}, seed: 1}\n"),
    "merge-overridden": _spec("  training: {<<: {steps: 5}, steps: 6}\n"),
    "merge-of-a-list": _spec("  training: {<<: [1]}\n"),
    "alias-bomb": f"{_HEAD}{_METADATA}spec:\n{_NEEDED}{_BOMB}",
    # Layout.
    "tab-as-indentation": _spec("  training:\n\tsteps: 5\n"),
    "tab-before-a-value": _training("steps:\t5"),
    "tab-after-a-value": _training("steps: 5\t"),
    "windows-lines": _spec("  suspend: true\n").replace("\n", "\r\n"),
    "byte-order-mark": "\ufeff" + _spec(""),
    "comments": _spec("  # a comment\n  suspend: true # another\n"),
    "document-marks": f"---\n{_spec('')}...\n",
    "wrong-indentation": _spec("   suspend: true\n"),
    "colon-in-text": _meta("  annotations: {note: a: b}\n"),
    "unclosed": _spec("  quality: {\n"),
    "block-text-ends-with-newline": _datasets("\n    - key: |\n        a.tar"),
    "block-text-stripped": _datasets("\n    - key: >-\n        a.tar"),
    "control-character": _meta('  annotations: {note: "a\x01"}\n'),
    "escape": _meta('  annotations: {note: "\\u00e9\\n\\x41"}\n'),
    "half-a-character": _meta('  annotations: {note: "\\ud83d"}\n'),
    "emoji": _meta("  annotations: {note: 🤖 ‮abc}\n"),
    "json": '{"apiVersion":"atoll.dev/v1alpha1","kind":"TrainingRun","metadata":{"name":"tricky"},'
    '"spec":{"datasets":[{"key":"a.tar"}],"publish":{"model":"note"}}}',
    # Nulls.
    "null-with-default": _spec("  suspend: null\n  training:\n  compile: ~\n"),
    "null-without-default": _spec("  quality: {minAP50: null}\n"),
    "null-for-required": f"{_HEAD}{_METADATA}spec:\n  datasets: [{{key: a.tar}}]\n  publish: {{model: null}}\n",
    "null-in-a-list": _spec("  conversion: {classes: [a, null]}\n"),
    "null-spec": f"{_HEAD}{_METADATA}spec:\n",
    "null-label": _meta("  labels: {a: }\n"),
    # Metadata.
    "date-as-label": _meta("  labels: {season: 2027-01-09}\n"),
    "number-as-label": _meta("  labels: {season: 2027}\n"),
    "truth-value-as-annotation": _meta("  annotations: {demo: on}\n"),
    "label-of-64": _meta(f"  labels: {{a: {'x' * 64}}}\n"),
    "label-with-space": _meta("  labels: {a: b c}\n"),
    "label-key": _meta("  labels: {-a: b}\n"),
    "label-key-with-two-slashes": _meta("  labels: {a/b/c: d}\n"),
    "annotation-key-in-capitals": _meta("  annotations: {Example.ORG/Key: d}\n"),
    "annotation-of-257-kib": _meta(f"  annotations: {{a: {'x' * 263168}}}\n"),
    "name-in-capitals": _spec("").replace("name: tricky", "name: Tricky"),
    "name-of-41": _spec("").replace("name: tricky", f"name: {'a' * 41}"),
    "name-as-number": _spec("").replace("name: tricky", "name: 123"),
    "unknown-metadata": _meta("  lables: {a: b}\n"),
    "labels-as-list": _meta("  labels: [a]\n"),
    # Shape.
    "unknown-field": _spec("  steps: 5\n"),
    "unknown-field-in-a-list": _datasets(" [{key: a.tar, fromat: coco}]"),
    "field-in-capitals": _spec("  Suspend: true\n"),
    "unknown-top-level": _spec("") + "specs: {}\n",
    "spec-as-text": f"{_HEAD}{_METADATA}spec: text\n",
    "object-where-a-list-is-due": _datasets(" {key: a.tar}"),
    "list-of-texts": _datasets(" [a.tar]"),
    "status": _spec("") + "status: {phase: Succeeded}\n",
    "unknown-status": _spec("") + "status: {phrase: Succeeded}\n",
    "set-with-repetition": _spec("  conversion: {ignore: [a, a]}\n"),
    "map-list-with-repetition": _datasets(" [{key: a}, {key: a}]"),
    "other-version": _spec("").replace("v1alpha1", "v1"),
    "without-kind": _spec("").replace("kind: TrainingRun\n", ""),
}
