"""Owns the policy file: YAML, one org a document, to orders. Unknown words are refused by name, never skipped."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..api.connections import ConnectionGiven
from ..api.models import Brake, CapGiven, GuardrailGiven, KeyGiven, Labelled, WorkspaceGiven, Zone
from ..api.values import Id
from ..core import commands as c
from ..core.caps import Enforce, Guardrail
from ..core.keys import UNASSIGNED

_KINDS = ("null", "bool", "int", "str", "seq", "map")  # what a value may be

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})\Z")


class PolicyError(Exception):
    """What is wrong in a policy file, and where."""


class _Org(Labelled):
    """What is left out stays as it is; an org that is new has the defaults."""

    id: Id
    time_zone: Zone | None = None
    enforce: Enforce | None = None
    brake: Brake | None = None


class Policy(BaseModel):
    """One org as a file says it should be."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    about: Annotated[_Org, Field(alias="org")]
    connections: dict[Id, ConnectionGiven] = {}
    workspaces: dict[Id, WorkspaceGiven | None] = {}
    keys: dict[Id, KeyGiven | None] = {}
    guardrails: dict[Id, GuardrailGiven] = {}
    caps: dict[Id, CapGiven] = {}

    @property
    def org(self) -> str:
        """The org's id."""
        return self.about.id

    def orders(
        self, caps: Iterable[str], guardrails: Iterable[str], connections: Iterable[str], credentials: Mapping[str, Sequence[str]],
        *, by: str, prune: bool,
    ) -> list[c.Command]:  # fmt: skip
        """What to order so that the org becomes what the file says; orders that change nothing make no entry.

        `credentials`: those of every key now. What one gives up it gives up first, since another may be to have it.
        """
        who: dict[str, Any] = {"org": self.org, "by": by}
        about = self.about
        orders: list[c.Command] = [
            c.SetOrg(**who, time_zone=about.time_zone or "", enforce=about.enforce, brake=about.brake, **about.labelling())
        ]
        orders += [c.SetConnection(**who, connection=given.connection(name)) for name, given in self.connections.items()]
        for name, workspace in self.workspaces.items():
            orders.append(c.SetWorkspace(**who, workspace=name, **(workspace or WorkspaceGiven()).labelling()))
        for name, key in self.keys.items():
            has, kept = credentials.get(name, ()), (key and key.credentials) or ()
            if key is not None and key.credentials is not None and not set(has) <= set(kept):
                orders.append(c.SetKey(**who, key=name, credentials=tuple(one for one in has if one in kept)))
        for name, key in self.keys.items():
            given = key or KeyGiven()
            names = None if given.credentials is None else tuple(given.credentials)
            orders.append(c.SetKey(**who, key=name, workspace=given.workspace, credentials=names, **given.labelling()))
        for name, rail in self.guardrails.items():
            made = Guardrail(guardrail_id=name, each=rail.each, within=tuple(rail.within), except_=tuple(rail.except_), rule=rail.rule())
            orders.append(c.SetGuardrail(**who, guardrail=made))
        orders += [c.SetCap(**who, cap=name, scope=cap.scope, rule=cap.rule()) for name, cap in self.caps.items()]
        if prune:
            orders += [c.RemoveCap(**who, cap=name) for name in sorted(set(caps) - self.caps.keys())]
            orders += [c.RemoveGuardrail(**who, guardrail=name) for name in sorted(set(guardrails) - self.guardrails.keys())]
            orders += [c.RemoveConnection(**who, connection=name) for name in sorted(set(connections) - self.connections.keys())]
        return orders

    def unmet(self, known: Collection[str]) -> list[str]:
        """What the rules name though neither the file nor the books (`known`, as scopes) have it: meant for later, or misspelt."""
        homes = {key.workspace for key in self.keys.values() if key is not None}
        have = {"org", f"workspace:{UNASSIGNED}", *known, *(f"workspace:{name}" for name in {*self.workspaces, *homes})}
        have |= {f"key:{name}" for key, given in self.keys.items() for name in (key, *((given and given.credentials) or ()))}
        return [f"{rule}: there is no {scope} yet" for rule, scope in self.named() if scope not in have]

    def named(self) -> list[tuple[str, str]]:
        """Each rule with a scope that it names."""
        inside = [(f"guardrail {rail}", "org" if name == "org" else f"workspace:{name}")
                  for rail, given in self.guardrails.items() for name in given.within]  # fmt: skip
        return inside + [(f"cap {cap}", given.scope) for cap, given in self.caps.items()]


class _Loader(yaml.SafeLoader):
    """Reads numbers as the text that is written: an amount keeps its digits (M1), an id its zeros. A whole number is one in plain
    decimals: YAML 1.1 would take 010 for eight, 1:30 for ninety."""

    yaml_constructors = {
        tag: made for tag, made in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag.rpartition(":")[2] in _KINDS
    }


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("float", "timestamp", "int")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
} | {first: [("tag:yaml.org,2002:int", _WHOLE)] for first in "-0123456789"}
# YAML 1.1 reads `on`, `off`, `yes` and `no` as booleans; `enforce: on` is a word.
for _first in "oOyYnN":
    _Loader.yaml_implicit_resolvers[_first] = [
        pair for pair in _Loader.yaml_implicit_resolvers.get(_first, []) if pair[0] != "tag:yaml.org,2002:bool"
    ]


def read_policies(text: str) -> list[Policy]:
    """The policies of a file. Raises PolicyError with the line and the field."""
    try:
        nodes = [node for node in yaml.compose_all(text, _Loader) if node is not None and node.tag != "tag:yaml.org,2002:null"]
        documents = [_plain_value(node) for node in nodes]
    except (yaml.YAMLError, RecursionError, ValueError, KeyError) as error:  # the latter of `!!int x`, `!!bool x`
        raise PolicyError(_not_yaml(error)) from None
    policies: list[Policy] = []
    for node, document in zip(nodes, documents, strict=True):
        try:
            policies.append(Policy.model_validate(document if isinstance(document, dict) else {}))
        except ValidationError as error:
            raise PolicyError("; ".join(_fault(node, fault) for fault in error.errors(include_input=False))) from None
        if policies[-1].org in {policy.org for policy in policies[:-1]}:  # `--prune` would take away what the other one sets
            raise PolicyError(f"line {_line(node, ('org', 'id'))}: org.id: {policies[-1].org!r} is there twice")
    if not policies:
        raise PolicyError("holds no policy: it begins with `org: {id: …}`")
    return policies


def _plain_value(node: yaml.Node) -> Any:
    """A document as values; a name that is given twice is an error, not a choice."""
    for mapping in _mappings(node):
        seen: set[str] = set()
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a name is not plain text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for pair in node.value:
            for part in pair:
                yield from _mappings(part)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _mappings(part)


def _not_yaml(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return "is not YAML"
    return f"line {mark.line + 1}: {getattr(error, 'problem', None) or 'is not YAML'}"


def _fault(node: yaml.Node, fault: Any) -> str:
    return f"line {_line(node, fault['loc'])}: {'.'.join(map(str, fault['loc']))}: {_plain(fault)}"


def _line(node: yaml.Node, place: tuple[int | str, ...]) -> int:
    """Where a field stands, or the last of its parents that does."""
    at = node.start_mark
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if pair is None:
                break
            at, node = pair[0].start_mark, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            at = node.start_mark
    return at.line + 1


def _plain(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "is not known here"
    if fault["type"] in ("model_type", "dict_type"):
        return "is not a mapping of names to values" + (", such as org: {id: acme}" if fault["loc"] == ("org",) else "")
    return fault["msg"].removeprefix("Value error, ")
