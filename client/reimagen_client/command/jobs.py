"""The commands `reimagen jobs`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from reimagen_client.calls import completed
from reimagen_client.command.context import AsJson, client_of
from reimagen_client.command.generate import Target, print_saved
from reimagen_client.command.output import out, print_fields, print_json, print_neighbors, report_errors
from reimagen_client.command.progress import display
from reimagen_client.models import Job, JobStatus, Retrieved

jobs = typer.Typer(help="List, show, watch and cancel jobs.", no_args_is_help=True, rich_markup_mode=None)

JobId = Annotated[str, typer.Argument(help="Id of the job.")]


@jobs.command("list")
def list_jobs(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="Maximum number of jobs, 1 to 100.")] = 20,
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs in this state.")] = None,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    with report_errors(), client_of(context) as client:
        page = client.jobs.list(limit=limit, status=status)
        if as_json:
            print_json(page)
            return
        for job in page.jobs:
            out().print(f"{job.id}  {job.status:<9}  {_time(job.created_at)}  {job.request.get('prompt', '')}")


@jobs.command()
def show(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Show a job."""
    with report_errors(), client_of(context) as client:
        job = client.jobs.get(job_id)
        if as_json:
            print_json(job)
        else:
            _print_job(job)


@jobs.command()
def watch(
    context: typer.Context,
    job_id: JobId,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Save the images to this folder or file at the end.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a job until it ends."""
    with report_errors(), client_of(context) as client:
        job = client.jobs.get(job_id)
        count = job.request.get("n") or 1
        target = None if output is None else Target(output, count)
        with display(n=count) as progress:
            for event in client.jobs.watch(job_id):
                progress.show(event)
        job = completed(client.jobs.get(job_id))
        saved = [] if target is None else [(target.save(image), image) for image in client.jobs.images(job)]
        if target is None and as_json:
            print_json(job)
        elif target is None:
            _print_job(job)
        else:
            print_saved(saved, Retrieved(neighbors=job.neighbors), as_json=as_json)


@jobs.command()
def cancel(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job. An ended job stays as it is."""
    with report_errors(), client_of(context) as client:
        job = client.jobs.cancel(job_id)
        if as_json:
            print_json(job)
        else:
            out().print(f"{job.id}: {job.status}")


def _print_job(job: Job) -> None:
    step = job.progress
    print_fields(
        {
            "id": job.id,
            "status": job.status,
            "prompt": job.request.get("prompt"),
            "seed": job.request.get("seed"),
            "created": _time(job.created_at),
            "finished": job.finished_at and _time(job.finished_at),
            "position": job.position,
            "progress": step and not job.ended and f"{step.size} pixels, step {step.step} of {step.steps}",
            "images": len(job.images),
            "error": job.error and job.error.get("message"),
        }
    )
    print_neighbors(job.neighbors, None)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
