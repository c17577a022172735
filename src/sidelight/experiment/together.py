"""Runs several jobs at the same time, so that what they train at the same moment can be trained as one model.

A job is ordinary code: it builds networks, trains them, and stores the result. Here each job has a thread, and where
it trains something, it waits. When every job waits or has ended, everything that waits is trained, and the jobs go on.
Only one thread runs at any time, so jobs share models, files and torch's random numbers as if they ran in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Jobs that wait for one another.

    Args:
        answer: answers what all waiting jobs asked, in their order.
    """

    def __init__(self, answer: Callable[[list[Asked]], list[Answer]]):
        self.answer = answer
        self.threads: dict[int, _Job[Asked, Answer]] = {}

    def ask(self, asked: Asked) -> Answer:
        """Wait until every job waits or has ended; called by a job."""
        return self.threads[threading.get_ident()].ask(asked)

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run jobs to their ends.

        Raises:
            Exception: the first error of a job; the others are abandoned where they wait.
        """
        started = [_Job[Asked, Answer](job) for job in jobs]
        waiting: list[_Job[Asked, Answer]] = []
        try:
            for job in started:
                job.start()
                self.threads[job.ident] = job
                job.resume()
            waiting = [job for job in started if job.is_waiting]
            while waiting:
                answers = self.answer([job.asked[0] for job in waiting])
                for job, answer in zip(waiting, answers, strict=True):
                    job.answers.append(answer)
                    job.resume()
                waiting = [job for job in waiting if job.is_waiting]
        finally:
            for job in started:
                job.abandon()
            self.threads.clear()


class _Abandoned(BaseException):
    """Ends the thread of a job that waits for an answer that will not come."""


class _Job(Generic[Asked, Answer]):
    """A job and its thread, which runs only between `resume` and the next question."""

    def __init__(self, job: Callable[[], None]):
        self.job = job
        self.asked: list[Asked] = []
        self.answers: list[Answer] = []
        self.turn, self.back = threading.Semaphore(0), threading.Semaphore(0)
        self.error: BaseException | None = None
        self.abandoned = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.thread.start()
        self.ident = self.thread.ident or 0

    @property
    def is_waiting(self) -> bool:
        """Whether the job has asked and not ended."""
        return bool(self.asked)

    def resume(self) -> None:
        """Let the job run until it asks or ends, and raise its error."""
        self.asked.clear()
        self.turn.release()
        self.back.acquire()
        if self.error is not None:
            raise self.error

    def ask(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        self.back.release()
        self.turn.acquire()
        if self.abandoned:
            raise _Abandoned
        return self.answers.pop()

    def abandon(self) -> None:
        """End the thread."""
        if self.thread.ident is None:
            return
        self.abandoned = True
        self.turn.release()
        self.thread.join()

    def _run(self) -> None:
        self.turn.acquire()
        try:
            if not self.abandoned:
                self.job()
        except _Abandoned:
            pass
        except BaseException as error:  # raised again by `resume`, in the thread of the others
            self.error = error
        self.back.release()
