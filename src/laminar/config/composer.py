"""Composer: Hydra's composition of a command's config, which says in our words what cannot be, and judges what comes out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, OverrideParseException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig

from laminar.config.foreign import Loader
from laminar.config.heads import menus
from laminar.config.jobs import judge_job, judge_sweep
from laminar.config.meant import in_our_words, refuse_members
from laminar.config.pages import compose, sparing
from laminar.config.translate import translated
from laminar.refused import Refused, sentences


class Composer(Loader):
    """Judges what a command runs, and is then ``ready`` for it: before Hydra makes a folder. None only shows a config."""

    def __init__(self, *args: Any, ready: Callable[[], Any] | None, **options: Any):
        super().__init__(*args, **options)
        self.judging, self.ready = ready is not None, ready
        self.pages: DictConfig | None = None  # as composed last, before the values of a command line
        self.asked: tuple[Any, DictConfig] | None = None  # a command line, and what it runs

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        asks = not validate_sweep_overrides  # Hydra only asks whether pages say that it is a sweep, and overlooks what is wrong
        asked, self.asked = self.asked, None
        if asked and asked[0] == (config_name, overrides) and run_mode == RunMode.RUN:
            config = asked[1]
        else:
            with sentences() if asks else nullcontext():
                config, parsed = self._composed(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
                sweeps = (config.hydra.mode if asks else run_mode) == RunMode.MULTIRUN
                single = not sweeps and not any(word.is_sweep_override() for word in parsed)
                if self.judging and sweeps:
                    judge_sweep(config, config_name, parsed)
                elif self.judging and single:
                    judge_job(config, config_name, [word.input_line for word in parsed if not word.is_hydra_override()])
            if asks and single and MISSING not in config.hydra.runtime.choices.values():  # a group without a member is refused
                self.asked = (config_name, [*overrides]), config
        if self.judging and not asks:
            self.ready()
        return config

    def _composed(self, name: str | None, overrides: list[str], *how: Any) -> tuple[DictConfig, Sequence[Override]]:
        parsed: Sequence[Override] = ()
        self.pages = None
        try:
            parsed, repository = self._parse_overrides_and_create_caching_repo(name, overrides)
            refuse_members(parsed, repository)
            return super().load_configuration(name, overrides, *how), parsed
        except OverrideParseException as error:
            raise Refused(f"{error.override} is no word of a command: say key=value, or 'key=\"a value\"'") from error
        except ConfigCompositionException as error:
            raise in_our_words(error, name, parsed, self.repository, self._bare) or error from error

    def _compose_config_from_defaults_list(self, *args: Any, **kwargs: Any) -> DictConfig:
        self.pages = super()._compose_config_from_defaults_list(*args, **kwargs)
        return self.pages

    def _bare(self, name: str | None, words: list[str]) -> DictConfig:
        """What the pages hold: composed already where a value did not fit, and else by the choices alone."""
        return self.pages or self._load_configuration_impl(name, words, RunMode.RUN)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """One job's, which is judged when it runs, for its refusal is a row of the table."""
        judging, self.judging = self.judging, False
        try:
            return super().load_sweep_config(master_config, sweep_overrides)
        finally:
            self.judging = judging


@contextmanager
def composing(loader: Callable[..., Any]) -> Iterator[None]:
    """Inside, Hydra composes by a loader of ours, which judges pages and words."""
    import hydra._internal.hydra as internal

    hydras, internal.ConfigLoaderImpl = internal.ConfigLoaderImpl, loader
    try:
        with sparing():
            yield
    finally:
        internal.ConfigLoaderImpl = hydras


def judged(name: str, words: Sequence[str]) -> DictConfig:
    """``conf/<name>.yaml`` with words that are judged as a command's are."""
    with composing(partial(Composer, ready=lambda: None)):
        return compose(name, translated(words, name, menus(name)))
