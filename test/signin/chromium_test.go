package signin

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// signInWithChromium signs in as a person does, from the console's first page on, looks at who they are, and signs out.
func (s *site) signInWithChromium(t *testing.T, user map[string]string, role string) {
	t.Helper()
	install(t, "chromium", "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox,
		chromedp.Flag("ignore-certificate-errors", true)) // of the certificate that serve made
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	tab, cancel := context.WithTimeout(tab, patience)
	t.Cleanup(cancel)
	do := func(actions ...chromedp.Action) {
		t.Helper()
		if err := chromedp.Run(tab, actions...); err != nil {
			t.Fatal(err)
		}
	}
	await := func(expression string) {
		t.Helper()
		for is := false; !is; time.Sleep(20 * time.Millisecond) { // while a page is replaced there is nothing to ask
			if err := chromedp.Run(tab, chromedp.Evaluate("!!("+expression+")", &is)); tab.Err() != nil {
				t.Fatalf("never true: %s: %v", expression, err)
			}
		}
	}
	ask := func(request string) (said string) {
		t.Helper()
		do(chromedp.Evaluate(fmt.Sprintf(`%s.then(async (r) => r.status + " " + await r.text())`, request), &said,
			func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
		return said
	}

	do(chromedp.Navigate(s.address + "/ui/fleet"))
	await(`document.querySelector("[name=username]")`) // the provider's page
	for field, value := range user {
		do(chromedp.SendKeys(fmt.Sprintf("[name=%s]", field), value, chromedp.ByQuery))
	}
	do(chromedp.Submit("form", chromedp.ByQuery))
	await(fmt.Sprintf(`location.href === %q && document.querySelector("#main h1")`, s.address+"/ui/fleet"))
	if got := ask(`fetch("/v1/me")`); got[:4] != "200 " || !strings.Contains(got, role) {
		t.Errorf("signed in: %s", got)
	}
	var cookies string
	do(chromedp.Evaluate(`document.cookie`, &cookies))
	if cookies != "" {
		t.Errorf("a script reads the cookie %q", cookies)
	}
	if got := ask(`fetch("/auth/logout", { method: "POST" })`); got != "204 " {
		t.Errorf("signed out: %s", got)
	}
	if got := ask(`fetch("/v1/me")`); got[:4] != "401 " {
		t.Errorf("after signing out: %s", got)
	}
	do(chromedp.Navigate(s.address + "/ui/fleet"))
	await(fmt.Sprintf(`!location.href.startsWith(%q)`, s.address)) // the provider's page again
}
