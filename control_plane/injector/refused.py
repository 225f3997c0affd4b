"""A refusal of the injector: the pod is denied, because one that asked for protection must not run without."""


class Refused(Exception):
    """The pod cannot be given a sidecar. `code`: one of few, for metrics. The message: a sentence that says what to write."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
