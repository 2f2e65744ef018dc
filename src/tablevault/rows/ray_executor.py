"""Runs calls in actors of a Ray cluster.

A thread of the owner's interpreter submits tasks, each of some calls, and takes their answers; it never waits for a
single actor. Ray retries nothing and keeps no state. When an actor dies, all of its unanswered calls are suspected,
since Ray does not report which of them were running. They are retried once, last, each alone in a worker.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from tablevault.builders.resources import Resources
from tablevault.ports import CallGroup, Ended, FunctionError, OpenFunction
from tablevault.rows.call_measure import CallMeasure
from tablevault.rows.input_files import InputFiles
from tablevault.rows.ray_actors import RayActor, SubmittedTask, Transfer, fate_of, owner_is_lost, was_lost_externally
from tablevault.rows.ray_cluster import RayCluster
from tablevault.rows.ray_files import SentFile
from tablevault.rows.ray_worker import (
    BROKEN,
    CONTROL,
    NAME,
    READY,
    AsyncRayWorker,
    Greeting,
    RayWorker,
    SentTask,
    TaskAnswer,
    versions,
)
from tablevault.rows.received_files import PIECE_BYTES, ReceivedFiles
from tablevault.rows.remote_calls import RemoteCalls, packed_opening
from tablevault.rows.sent_errors import receive_error
from tablevault.rows.worker_core import PROTOCOL, Answer
from tablevault.rows.worker_texts import digits
from tablevault.system import clock
from tablevault.system.warnings import warn

_TASK_SECONDS = 0.1
"""Target duration of a task, estimated from the durations of recent calls."""
_MAXIMUM_CALLS = 10_000
_MAXIMUM_BYTES = 4 * 1024 * 1024
"""Calls of one task, and bytes of their arguments."""
_TASKS_PER_PLACE = 2
"""Tasks submitted for each place of a worker, so that no place waits for the network."""
_LOOK_SECONDS = 0.1
"""Seconds between checks of state that is not reported."""
_GROWING_SECONDS = 1.0
"""Seconds after which the number of workers may double again."""
_IDLE_SECONDS = 10.0
"""Seconds after which an idle worker is released."""
_UNPLACED_SECONDS = 30.0
"""Seconds without a place for a worker after which the user is warned."""
_LONG_SECONDS = 0.5
"""Seconds after which calls queued behind a long one are taken back, if another worker could run them."""
_CLOSE_SECONDS = 5.0
"""Seconds that workers without calls have to close their functions."""
_DEAF_SECONDS = 5.0
"""Seconds after which the worker of a cancelled call that still runs is killed."""
PING_SECONDS = 5.0
"""Seconds between two heartbeats to each worker."""
SILENCE_SECONDS = 60.0
"""Seconds without a heartbeat after which a worker ends itself."""
LOST_SECONDS = 10.0
"""Seconds after which an unreachable cluster counts as lost."""


@dataclass(frozen=True)
class RayJob:
    """The function that workers run, with its options."""

    open_function: OpenFunction
    resources: Resources
    min_workers: int
    max_workers: int
    rows_per_worker: int
    places: int
    """Concurrent calls in all workers together."""
    is_async: bool = False
    is_timed: bool = False
    """Whether calls have a timeout."""
    one_by_one: bool = False
    """Whether a task is a single call."""
    ends_at_failure: bool = False
    """Whether the first failed call ends its task, and later calls of it are queued again."""
    runtime_env: Mapping[str, object] = field(default_factory=dict)
    """As Ray's own `runtime_env`."""
    forwarded: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables that workers get."""
    variables: tuple[str, ...] = ()
    """Names of workers' environment variables that arguments use."""
    makes_files: bool = False
    """Whether arguments name the folder for the files of a call."""
    folder: Path = Path()
    """Takes the files that results name."""
    input_root: Path | None = None
    """Files below it that arguments name are sent with the calls; `None` to send none."""
    on_unnamed: Callable[[Sequence[str]], None] = lambda _: None
    """Takes the names of files that no result names."""
    missing_text: str = f"the environment variable {NAME} is not set on the worker"
    """The message if one of them is not set."""
    on_variables: Callable[[Mapping[str, str]], None] = lambda _: None
    """Registers their values, which are secret."""


class RayExecutor:
    """Runs calls in actors of a Ray cluster.

    Parameters
    ----------
    cluster
        The cluster, connected.
    job
        The work of the actors.

    Raises
    ------
    FunctionError
        If the function cannot be sent.
    """

    def __init__(self, cluster: RayCluster, job: RayJob) -> None:
        self._pool = _ActorPool(cluster, job)
        self._dismiss = weakref.finalize(self, self._pool.dismiss)
        self._dismiss.atexit = False

    @property
    def workers(self) -> int:
        """Maximum number of calls in flight; suspected calls wait until all others are done."""
        return self._pool.capacity + len(self._pool.calls.suspects)

    @property
    def ended(self) -> deque[Ended]:
        """Calls that have ended; the caller removes them."""
        return self._pool.calls.ended

    @property
    def begun(self) -> Mapping[int, float]:
        """Start times of the running calls on the monotonic clock, as known to the owner."""
        return self._pool.begun()

    @property
    def waiting(self) -> str:
        """The reason why workers cannot be placed; empty if all are."""
        return self._pool.waiting

    def start(self, number: int, arguments: Mapping[str, object]) -> None:
        """Queue a call for a free worker; unpicklable arguments become its error."""
        pool = self._pool
        if pool.inputs is not None:
            arguments = pool.inputs.marked(number, arguments)
        pool.calls.start(number, arguments)
        if pool.inputs is not None:
            pool.inputs.started = number

    def start_together(self, group: CallGroup) -> None:
        """Queue calls as `start` does."""
        pool = self._pool
        if pool.inputs is not None and any(map(pool.inputs.may_name_files, group.values)):
            for number, arguments in zip(group.numbers, group.arguments(), strict=True):
                self.start(number, arguments)
            return
        pool.calls.start_together(group)
        if pool.inputs is not None:
            pool.inputs.started = group.numbers[-1]

    def wait(self, seconds: float) -> None:
        """Return when a call has ended, at the latest after `seconds`."""
        self._pool.calls.release()
        self._pool.wake()
        self._pool.calls.wait(seconds)
        while self._pool.warnings:
            warn(self._pool.warnings.popleft())

    def cancel_waiting(self) -> frozenset[int]:
        """Take back calls not yet given to a worker; return their numbers.

        Calls that a worker has not begun follow as soon as it returns them.
        """
        taken = self._pool.calls.take_back()
        self._pool.wake()
        return taken

    def knows(self, number: int) -> bool:
        """Return whether the call is in flight or still in `ended`."""
        return self._pool.calls.knows(number)

    def reported(self, number: int) -> Mapping[str, float]:
        """Return an empty mapping, since a worker reports with its answer."""
        return {}

    def abandon(self, number: int) -> int:
        """Cancel a call that has timed out, or kill its worker; return 0."""
        self._pool.calls.abandoned.add(number)
        self._pool.wake()
        return 0

    def close(self) -> None:
        """Kill busy workers, and let idle ones close their functions and exit."""
        self._dismiss()
        self._pool.thread.join()


class _ActorPool:
    """The workers, and the threads that serve them.

    It does not refer to the executor, so that dropping the executor ends them.
    """

    def __init__(self, cluster: RayCluster, job: RayJob) -> None:
        self.calls = RemoteCalls("Ray worker", "Ray workers", job.ends_at_failure)
        self.waiting = ""
        self.warnings: deque[str] = deque()
        """Warnings that the owner has to issue."""
        self._cluster = cluster
        self._ray = cluster.ray
        self._job = job
        self.inputs = InputFiles(job.input_root, cluster.ray.put) if job.input_root is not None else None
        self._greeting = self._packed_greeting()
        self._class = self._actor_class()
        self._actors: list[RayActor] = []
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        """Actions for the thread, added by any thread."""
        self._numbers = itertools.count()
        self._measure = CallMeasure()
        self._task_calls = 1
        self._depth = 1 if job.is_timed else _TASKS_PER_PLACE
        self._target = 0
        """Target number of workers."""
        self._grew = float("-inf")
        self._cancelled: dict[int, float] = {}
        """Times at which still running calls were cancelled, by their numbers."""
        self._is_warned = False
        self._is_over = threading.Event()
        self._is_lost = False
        """Whether the cluster is lost."""
        self.thread = threading.Thread(target=self._serve, name="tablevault-ray", daemon=True)
        self.thread.start()
        threading.Thread(target=self._keep_alive, name="tablevault-ray-pings", daemon=True).start()

    @property
    def capacity(self) -> int:
        """Calls that may be with workers."""
        return self._job.places * self._depth * self._task_calls

    def begun(self) -> dict[int, float]:
        """Return the start times of running calls, taken as the first unanswered call of each task."""
        begun = {}
        for actor in self._actors.copy():
            for task in actor.running if actor.is_ready else ():
                # The thread replaces the list but never mutates it.
                for number in task.calls[:1]:
                    begun[number] = task.began
        return begun

    def wake(self) -> None:
        """Wake the thread to hand out calls."""
        self._events.put(_nothing)

    def dismiss(self) -> None:
        """End the workers and the threads."""
        self._is_over.set()
        self.wake()

    # --- sending --------------------------------------------------------------------------------------------------

    def _packed_greeting(self) -> bytes:
        job = self._job
        greeting = Greeting(
            versions(self._ray),
            packed_opening(job.open_function, "Ray workers"),
            digits(),
            list(job.variables),
            job.missing_text,
            SILENCE_SECONDS,
            job.makes_files,
            job.input_root is not None,
        )
        return pickle.dumps(tuple(greeting), PROTOCOL)

    def _actor_class(self) -> Any:
        worker = AsyncRayWorker if self._job.is_async else RayWorker
        return self._ray.remote(concurrency_groups={CONTROL: 1})(worker)

    def _start_actor(self) -> None:
        """Create a worker; it is greeted once Ray has placed it."""
        job = self._job
        taken = sum(actor.places for actor in self._actors if not actor.is_leaving)
        places = max(1, min(job.rows_per_worker, job.places - taken))
        handle = self._class.options(
            num_cpus=job.resources.cpu,
            num_gpus=job.resources.gpu,
            memory=job.resources.memory or None,
            resources=dict(job.resources.custom),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=places,
            runtime_env=dict(job.runtime_env) or None,
        ).remote()
        actor = RayActor(handle, places, clock.monotonic())
        self._actors.append(actor)
        self._control(actor, "ping", partial(self._placed, actor))
        self._expect(actor, handle.hello.remote(self._greeting, dict(job.forwarded)), partial(self._greeted, actor))

    def _control(self, actor: RayActor, method: str, handle: Callable[[Any], None], *arguments: object) -> None:
        """Call a method that a worker serves concurrently with its calls."""
        called = getattr(actor.handle, method).options(concurrency_group=CONTROL).remote(*arguments)
        self._expect(actor, called, handle)

    def _expect(self, actor: RayActor, reference: Any, handle: Callable[[Any], None]) -> None:
        """Queue a worker's answer for the thread; errors from Ray mean a lost worker."""
        reference.future().add_done_callback(
            lambda future: self._events.put(partial(self._hear, actor, future, handle))
        )

    def _hear(self, actor: RayActor, future: Future[Any], handle: Callable[[Any], None]) -> None:
        if actor not in self._actors:
            return
        error = future.exception()
        if error is None:
            handle(future.result())
        else:
            self._lose(actor, error)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._is_over.is_set():
                self._look_after()
                self._give_out()
                self._do_next(_LOOK_SECONDS)
        except BaseException as error:  # noqa: BLE001 - an error of Ray's, which the owner raises
            self._break_off(error)
            while not self._is_over.wait(_LOOK_SECONDS):
                self.calls.fail(list(self.calls.arguments))
        finally:
            self._end()

    def _do_next(self, seconds: float) -> None:
        """Handle reported events; wait for the first one at most `seconds`."""
        with contextlib.suppress(Empty):
            self._events.get(timeout=seconds)()
            while True:
                self._events.get_nowait()()

    def _keep_alive(self) -> None:
        """Send a heartbeat to all workers, and check whether the cluster is reachable."""
        reached = clock.monotonic()
        while not self._is_over.wait(PING_SECONDS):
            with contextlib.suppress(Exception):
                for actor in self._actors.copy():
                    actor.handle.ping.options(concurrency_group=CONTROL).remote()
            if self._cluster.is_reachable:
                reached = clock.monotonic()
            elif clock.monotonic() - reached >= LOST_SECONDS:
                self._events.put(self._lose_cluster)
                return

    def _lose_cluster(self) -> None:
        self._is_lost = True
        address = self._cluster.address
        # During ray.shutdown() in another thread, the interpreter still counts as connected.
        if self._cluster.is_connected and not self._cluster.is_reachable:
            text = f"the Ray cluster at {address} was lost; make the same call again with another cluster"
        else:
            text = (
                f"the connection to the Ray cluster at {address} was closed while rows were running, for example by "
                "ray.shutdown()"
            )
        self._break_off(ConnectionError(text))

    def _break_off(self, error: BaseException) -> None:
        """End all calls, including those in workers, with an error of the run."""
        self.calls.break_off(FunctionError(error))
        self.calls.fail(list(self.calls.arguments))
        for actor in self._actors:
            actor.tasks.clear()
            for transfer in actor.transfers.values():
                transfer.files.discard()
            actor.transfers.clear()

    # --- workers --------------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Grow and shrink the pool, and check unplaced workers and abandoned calls."""
        if self.calls.broken is not None:
            return
        if not self._cluster.is_connected:
            self._lose_cluster()
            return
        now = clock.monotonic()
        self._grow(now)
        self._shrink(now)
        self._tell_unplaced(now)
        self._take_back(now)
        for number in self.calls.abandoned.copy():
            if number in self.calls.arguments:
                self._give_up(number, now)

    def _grow(self, now: float) -> None:
        """Double the number of workers while calls wait."""
        wanted = len(self.calls.waiting) + len(self.calls.suspects)
        here = [actor for actor in self._actors if not actor.is_leaving]
        if wanted and now - self._grew >= _GROWING_SECONDS:
            enough = -(-wanted // (self._job.rows_per_worker * self._task_calls)) + sum(bool(a.tasks) for a in here)
            grown = min(max(2 * self._target, self._job.min_workers, 1), self._most_workers, enough)
            if grown > self._target:
                self._target, self._grew = grown, now
        if wanted:
            for _ in range(self._target - len(here)):
                self._start_actor()

    @property
    def _most_workers(self) -> int:
        return min(self._job.max_workers, -(-self._job.places // self._job.rows_per_worker))

    def _shrink(self, now: float) -> None:
        """Release idle workers after a while, since they may keep a machine running."""
        if self.calls.waiting or self.calls.suspects:
            return
        for actor in [actor for actor in self._actors if actor.is_idle]:
            if now - actor.idle_since > _IDLE_SECONDS and self._target > self._job.min_workers:
                self._target -= 1
                actor.is_leaving = True
                self._expect(actor, actor.handle.finish.remote(), partial(self._finished, actor))

    def _take_back(self, now: float) -> None:
        """Take back calls queued behind a long one if another worker could run them, or that are to be dropped."""
        has_room = any(actor.is_idle for actor in self._actors) or len(self._actors) < self._most_workers
        moves = has_room and not self.calls.waiting
        for actor in self._actors if moves or self.calls.forgets_returned else ():
            is_long = moves and any(now - task.began > _LONG_SECONDS for task in actor.running)
            wanted = is_long or self.calls.forgets_returned
            if wanted and not actor.is_asked and actor.is_ready and actor.has_queue:
                actor.is_asked = True
                self._control(actor, "hand_over", partial(self._handed_over, actor), list(actor.tasks))

    def _handed_over(self, actor: RayActor, found: Mapping[int, tuple[list[Answer], list[int] | None]]) -> None:
        actor.is_asked = False
        for number, (answers, given_back) in found.items():
            task = actor.tasks.get(number)
            if task is not None:
                self._handle_report(task, answers, task.calls.copy() if given_back is None else given_back)

    def _handle_report(self, task: SubmittedTask, answers: Sequence[Answer], given_back: Sequence[int]) -> None:
        """Handle a worker's report on a task, which may arrive twice."""
        left = dict.fromkeys(task.calls)
        ended = [answer for answer in answers if answer[0] in left]
        returned = [number for number in given_back if number in left]
        if ended:
            self.calls.answer(ended)
        self.calls.give_back(returned)
        for number in (*(answer[0] for answer in ended), *returned):
            del left[number]
        task.calls = list(left)

    def _tell_unplaced(self, now: float) -> None:
        unplaced = [a for a in self._actors if not a.is_placed and now - a.created > _UNPLACED_SECONDS]
        if not unplaced:
            self.waiting = ""
            return
        ready = sum(actor.is_placed for actor in self._actors)
        needs = self._job.resources.text
        self.waiting = f"ray: {ready} of {self._target} workers, wanted: {needs}"
        if not self._is_warned:
            self._is_warned = True
            self.warnings.append(
                f"The Ray cluster at {self._cluster.address} has had no place for a worker that needs {needs} for "
                f"{_UNPLACED_SECONDS:g} seconds; {ready} of {self._target} workers are running. Rows are waiting; add "
                "machines, or change 'resources' of the builder."
            )

    def _placed(self, actor: RayActor, _: object) -> None:
        actor.is_placed = True

    def _greeted(self, actor: RayActor, answer: tuple[str, Any]) -> None:
        kind, content = answer
        if actor.is_leaving:
            # It opened its function while the run ended, and is closing it.
            return
        if kind == READY:
            actor.is_placed = actor.is_ready = True
            actor.idle_since = clock.monotonic()
            self._job.on_variables(content)
            self.calls.opened()
        elif kind == BROKEN:
            self._remove(actor)
            self.calls.break_off(FunctionError(receive_error(content)))
        else:
            self._remove(actor)
            self.calls.break_off(FunctionError(RuntimeError(self._difference(content))))

    def _difference(self, theirs: Mapping[str, str]) -> str:
        """Return the message about a worker with different versions."""
        own = versions(self._ray)
        names = [name for name in own if theirs.get(name) != own[name]]
        there, here = (", ".join(f"{name} {found.get(name)}" for name in names) for found in (theirs, own))
        return (
            f"a worker of the Ray cluster at {self._cluster.address} has {there}, and this interpreter has {here}; "
            "install the same versions on all machines of the cluster"
        )

    def _finished(self, actor: RayActor, _: object) -> None:
        self._remove(actor)

    def _remove(self, actor: RayActor) -> None:
        """Remove a worker and end it."""
        self._actors.remove(actor)
        with contextlib.suppress(Exception):
            self._ray.kill(actor.handle)

    def _lose(self, actor: RayActor, error: BaseException) -> None:
        """Requeue or suspect the calls of a lost worker, or after a lost answer."""
        calls = actor.unanswered
        for transfer in actor.transfers.values():
            transfer.files.discard()
        self._remove(actor)
        for number in calls:
            self._cancelled.pop(number, None)
        fate = fate_of(error)
        if owner_is_lost(error):
            self._lose_cluster()
        elif actor.is_leaving:
            self.calls.give_back(calls)
        elif getattr(error, "actor_init_failed", False):
            self.calls.break_off(FunctionError(RuntimeError(f"a Ray worker could not be started: {error}")))
        elif was_lost_externally(error):
            self.calls.give_back(calls)
        elif not actor.is_ready:
            self.calls.died_opening(fate)
        elif not calls:
            self.calls.died_idle(fate)
        else:
            self.calls.suspect(calls, fate)

    def _give_up(self, number: int, now: float) -> None:
        """Cancel an async call that has timed out; kill the worker of any other."""
        actor = next((actor for actor in self._actors if number in actor.unanswered), None)
        if actor is None:
            self.calls.arguments.pop(number, None)
            self._cancelled.pop(number, None)
            return
        if self._job.is_async and number not in self._cancelled:
            self._cancelled[number] = now
            self._control(actor, "cancel", _ignore, number)
        elif not self._job.is_async or now - self._cancelled[number] > _DEAF_SECONDS:
            others = [other for other in actor.unanswered if other not in self.calls.abandoned]
            self._remove(actor)
            for given_up in self.calls.abandoned:
                self.calls.arguments.pop(given_up, None)
            self.calls.give_back(others)

    # --- calls ----------------------------------------------------------------------------------------------------

    def _give_out(self) -> None:
        """Submit waiting calls to workers with room, suspected ones last."""
        if self.calls.broken is not None:
            self.calls.fail_waiting()
            return
        if self.calls.failed:
            return
        for depth in range(1, self._depth + 1):
            for actor in sorted(self._actors, key=lambda actor: len(actor.tasks)):
                while actor.may_be_given and len(actor.tasks) < actor.places * depth and self.calls.waiting:
                    self._submit(actor, self.calls.waiting, self._task_calls)
        for actor in self._actors:
            if any(other.is_alone for other in self._actors):
                break
            if self.calls.suspects and not self.calls.waiting and actor.is_idle:
                actor.is_alone = True
                self._submit(actor, self.calls.suspects, 1)
                actor.is_alone = bool(actor.tasks)

    def _submit(self, actor: RayActor, numbers: deque[int], most: int) -> None:
        taken = self.calls.take(numbers, most, _MAXIMUM_BYTES)
        if not taken.calls:
            return
        task, calls = next(self._numbers), list(taken.sizes)
        actor.tasks[task] = SubmittedTask(calls, sum(taken.sizes.values()), clock.monotonic())
        content = pickle.dumps(tuple(SentTask(task, taken.calls, self._job.ends_at_failure)), PROTOCOL)
        self._expect(
            actor, actor.handle.run.remote(content, self._input_files(calls)), partial(self._answered, actor, task)
        )

    def _answered(self, actor: RayActor, number: int, content: tuple[Any, ...]) -> None:
        task = actor.tasks.pop(number)
        found = TaskAnswer(*content)
        now = clock.monotonic()
        # The task queued behind it begins now.
        for following in itertools.islice(actor.running, actor.places - 1, None):
            following.began = now
        if found.answers:
            self._note_time(found, task)
        for names in found.unnamed.values():
            self._job.on_unnamed(names)
        left = set(task.calls)
        self._handle_report(
            task, [answer for answer in found.answers if answer[0] not in found.files], found.given_back
        )
        for answer in found.answers:
            if answer[0] in found.files and answer[0] in left:
                self._receive(actor, answer, [SentFile(*file) for file in found.files[answer[0]]])
        actor.is_alone = actor.is_alone and bool(actor.transfers)
        actor.idle_since = now

    def _input_files(self, calls: Sequence[int]) -> dict[str, tuple[Any, ...]]:
        """Return the files that are sent with calls, in the form that workers read."""
        if self.inputs is None:
            return {}
        self.inputs.forget_all_but(self.calls.arguments)
        return {key: tuple(file) for key, file in self.inputs.of_calls(calls)}

    # --- files ----------------------------------------------------------------------------------------------------

    def _receive(self, actor: RayActor, answer: Answer, sent: list[SentFile]) -> None:
        """Begin to copy the files named in a result; their arrival ends the call."""
        number = answer[0]
        try:
            files = ReceivedFiles(self._job.folder, sent)
        except ValueError as error:
            self.calls.end(number, error)
            return
        actor.transfers[number] = Transfer(answer, files)
        self._receive_next(actor, number)

    def _receive_next(self, actor: RayActor, number: int) -> None:
        transfer = actor.transfers[number]
        try:
            piece = transfer.files.next_piece
            if piece is not None:
                name, offset = piece
                self._control(
                    actor, "read_file", partial(self._received, actor, number), number, name, offset, PIECE_BYTES
                )
                return
            transfer.files.move_into_place()
        except OSError:
            self._end_transfer(actor, number)
            raise
        self._end_transfer(actor, number)
        self.calls.answer([transfer.answer])

    def _received(self, actor: RayActor, number: int, piece: bytes) -> None:
        if number in actor.transfers:
            actor.transfers[number].files.add(piece)
            self._receive_next(actor, number)

    def _end_transfer(self, actor: RayActor, number: int) -> None:
        actor.transfers.pop(number).files.discard()
        self._control(actor, "drop_files", _ignore, number)
        actor.is_alone = actor.is_alone and bool(actor.tasks or actor.transfers)
        actor.idle_since = clock.monotonic()

    def _note_time(self, found: TaskAnswer, task: SubmittedTask) -> None:
        count = len(found.answers)
        self._measure.add(sum(answer[1] for answer in found.answers) / count, task.size / count)
        if not self._job.one_by_one:
            self._task_calls = self._measure.calls_in(_TASK_SECONDS, _MAXIMUM_BYTES, _MAXIMUM_CALLS)

    # --- the end --------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """End all workers.

        Workers without calls close their functions first, even while they open them.
        """
        if self._is_lost:
            self._actors.clear()
            self._cluster.disconnect()
            return
        for actor in self._actors.copy():
            for transfer in actor.transfers.values():
                transfer.files.discard()
            if actor.is_idle or (actor.is_placed and not actor.is_ready):
                actor.is_leaving = True
                self._expect(actor, actor.handle.finish.remote(), partial(self._finished, actor))
            elif not actor.is_leaving:
                self._remove(actor)
        deadline = clock.monotonic() + _CLOSE_SECONDS
        while self._actors and clock.monotonic() < deadline:
            self._do_next(_LOOK_SECONDS)
        for actor in self._actors.copy():
            self._remove(actor)


def _nothing() -> None:
    """Do nothing; the thread only has to wake up."""


def _ignore(_: object) -> None:
    """Ignore an answer."""
