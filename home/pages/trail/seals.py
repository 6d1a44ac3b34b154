"""`/trail/seals`: the seals, whether they hold, and *Verify now*."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from audit.ids import HIGHEST
from audit.record import record
from audit.verify import AlreadyVerifying, exported_seals
from audit.verifying import (
    is_running,
    last_verification,
    newest_seals,
    unsealed,
    verifier_of,
)
from home.services import Services
from home.web.pages import Page
from home.web.people import Who
from home.web.redirects import TRAIL, redirect
from home.web.rendering import NO_STORE, render

SEALS = f"{TRAIL}/seals"


class SealPages:
    """The handlers; the verification of this process is theirs."""

    def __init__(self, services: Services) -> None:
        self.db = services.db
        self.verifier = verifier_of(services)

    def pages(self) -> list[Page]:
        """Return the pages."""
        return [
            Page(SEALS, self.show, Who.READERS),
            Page(f"{SEALS}.ndjson", self.download, Who.READERS),
            Page(f"{SEALS}/verify", self.verify, Who.ADMINISTRATORS, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show the seals, and how far a verification is."""
        text = request.query_params.get("before", "")
        is_number = text.isascii() and text.isdigit() and len(text) < 19
        if text and not is_number:
            raise HTTPException(422, "This address does not say where the page begins.")
        before = int(text) if text else HIGHEST
        seals, more = await newest_seals(self.db, before)
        progress = self.verifier.progress
        is_here = progress is not None and progress.is_running
        return render(
            request,
            "trail_seals.html",
            seals=seals,
            more=more,
            progress=progress,
            is_here=is_here,
            is_running=is_here or await is_running(self.db),
            last=await last_verification(self.db),
            unsealed=await unsealed(self.db),
            is_continued=bool(text),
        )

    async def verify(self, request: Request) -> Response:
        """Begin to verify the trail."""
        try:
            await self.verifier.start()
        except AlreadyVerifying as error:
            return redirect(SEALS, str(error), failed=True)
        return redirect(SEALS)

    async def download(self, request: Request) -> Response:
        """Answer with all seals, to be kept where nobody who can write to the database can."""
        if request.method == "HEAD":
            raise HTTPException(405, headers={"allow": "GET"})
        await record(self.db, "audit.seals_exported", "audit_seals")
        name = {"content-disposition": 'attachment; filename="seals.ndjson"'}
        return StreamingResponse(
            exported_seals(self.db), media_type="application/x-ndjson", headers=NO_STORE | name
        )
