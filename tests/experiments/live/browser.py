"""When a page in a browser is at rest."""

from playwright.sync_api import Page

AT_REST = """async () => {
    const script = document.querySelector('script[src*="_nicegui"]').src;
    const placed = 'figure,button,.q-slider,.latent-row,.map,.map circle';
    const shown = () => JSON.stringify([
        document.body.innerText,
        [...document.querySelectorAll('img')].map(image => image.src),
        [...document.querySelectorAll(placed)].map(element => element.getBoundingClientRect()),
    ]);
    for (let before = shown(), same = 0; same < 3;) {
        await new Promise(done => setTimeout(done, 120));  // longer than the page holds back what a slider does
        await (await fetch(script, {cache: 'no-store'})).text();
        const now = shown();
        same = now === before ? same + 1 : 0;
        before = now;
    }
}"""
"""Returns when words, pictures and places have stayed as they are over three answers of the server: it answers on the
event loop that also handles what a person does, so a busy one is waited for."""


def rest(page: Page) -> None:
    """Wait until nothing on the page changes any more. A page that plays something never rests."""
    page.evaluate(AT_REST)
