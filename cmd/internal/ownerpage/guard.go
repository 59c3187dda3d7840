package ownerpage

import (
	"crypto/rand"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/cells/identity"
)

// guard decides who may see the pages. It is made anew for each run of sluice cell ui.
//
// The address that is printed has a token that works once; a browser gets a cookie for it. The cookie is bound to a
// path that can't be guessed: browsers send the cookies of 127.0.0.1 to whatever listens there on another port, but
// only for paths below the cookie's. The Host must be this machine's, so that no name of another site can be made to
// lead here, and a form must come from a page of this site.
type guard struct {
	base    string // path of the first page
	open    bool   // everyone who reaches the listener may decide
	session string
	foreign *http.CrossOriginProtection

	mu    sync.Mutex
	token string // empty: it was used
}

// refusal says why a request is not served.
type refusal struct {
	status            int
	title, text, next string
}

const (
	tokenParam    = "token"
	sessionCookie = "sluice-owner"
	startAgain    = "Start sluice cell ui again: it prints an address that works once."
)

func newGuard(open bool) *guard {
	g := &guard{base: "/", open: open, foreign: http.NewCrossOriginProtection()}
	if !open {
		g.base, g.session, g.token = "/"+strings.ToLower(rand.Text())+"/", rand.Text(), rand.Text()
	}
	return g
}

// address returns the address to open in a browser.
func (g *guard) address(hostPort string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	to := "http://" + hostPort + g.base
	if !g.open {
		to += "?" + tokenParam + "=" + g.token
	}
	return to
}

// admit returns why a request is not served; nil: it is. With http.StatusSeeOther the browser has a cookie now.
func (g *guard) admit(w http.ResponseWriter, r *http.Request) *refusal {
	switch {
	case !isThisMachine(r.Host):
		return &refusal{http.StatusMisdirectedRequest, "This is not the address of this page",
			"It is asked for under a name that is not this machine's.", startAgain}
	case isForeign(r) || g.foreign.Check(r) != nil:
		return &refusal{http.StatusForbidden, "A page of another site asked for this", "Nothing was shown or changed.",
			"Open the address of this page yourself."}
	case g.open || g.hasSession(r):
		return nil
	}
	token := r.URL.Query().Get(tokenParam)
	if token == "" || r.Method != http.MethodGet {
		return &refusal{http.StatusForbidden, "This browser may not decide here",
			"It has no permission for this cell, or " +
				"lost it.", startAgain}
	}
	if !g.use(token, r) {
		return &refusal{http.StatusForbidden, "This address was used already", "Each works once: somebody opened it " +
			"before. If that was not you, stop sluice cell ui.", startAgain}
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: g.session, Path: g.base, HttpOnly: true,
		SameSite: http.SameSiteLaxMode})
	return &refusal{status: http.StatusSeeOther}
}

// use reports whether the token is the right one, and uses it up. A browser that only looks ahead does not.
func (g *guard) use(token string, r *http.Request) bool {
	if r.Header.Get("Sec-Purpose") != "" || !strings.HasPrefix(r.URL.Path, g.base) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(g.token)) != 1 {
		return false
	}
	g.token = ""
	return true
}

func (g *guard) hasSession(r *http.Request) bool {
	c, err := r.Cookie(sessionCookie)
	return err == nil && subtle.ConstantTimeCompare([]byte(c.Value), []byte(g.session)) == 1
}

// isForeign reports whether a page of another site asked, be it on another port of this machine. Links are fine:
// whoever follows one sees the page, and the other site does not.
func isForeign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" ||
		r.Header.Get("Sec-Fetch-Dest") != "document"
}

// isThisMachine reports whether a Host is localhost or a loopback address, with any port: one may be forwarded.
func isThisMachine(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	return identity.IsLocalHost(strings.Trim(name, "[]"))
}
