package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

const (
	// LoginPath is where a browser signs in.
	LoginPath = "/auth/login"
	// SessionCookie holds the secret of a browser's session. Its prefix binds it to this host and to https://.
	SessionCookie = "__Host-sluice"
)

// SignedIn knows who signed in. No method reads the store, but for a session that is new here.
type SignedIn interface {
	Enabled() bool // whether people can sign in
	// Session returns whose session has a secret with that hash, and when it ends at the latest. If byPerson, its
	// person asked for something just now, and it is not idle. Session returns access.ErrUnknown if there is none (any
	// more), and engine.ErrNotReady while sluice.yaml has not been read.
	Session(hash string, byPerson bool) (access.Person, access.Grants, time.Time, error)
	// Workload verifies a token that an issuer in sluice.yaml signed; access.ErrUnknown: it is not valid.
	Workload(ctx context.Context, token string) (access.Person, access.Grants, time.Time, error)
}

// errStale refuses a session where a replica may have missed its end.
var errStale = errors.New("this replica has not heard of its store for a while")

func writeStale(w http.ResponseWriter) {
	api.SetRetryAfter(w, 5)
	api.WriteProblem(w, http.StatusServiceUnavailable,
		"This replica has not heard of its store for a while, and may have missed a revocation: ask again, "+
			"another replica may answer.")
}

// leadsToSignIn reports whether a browser that nobody signed in with asks for a page, to which it goes on afterwards.
// Who signs in and has no role is refused there, so that nobody goes in a circle.
func (a *Auth) leadsToSignIn(r *http.Request, route *api.Route, listener api.Listener) bool {
	return route.Page && listener == api.People && a.signIn != nil && a.signIn.Enabled() &&
		r.Header.Get("Authorization") == "" && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// pageOf returns the page to which a browser goes on after signing in: of a form that was sent, its page, where it is
// to
// be confirmed once more.
func pageOf(r *http.Request) string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return r.URL.RequestURI()
	}
	query := r.URL.Query()
	query.Set("again", "1")
	return r.URL.EscapedPath() + "?" + query.Encode()
}

// authenticateCookie identifies who signed in with the browser. A cookie that has become invalid is as none.
func (a *Auth) authenticateCookie(c *api.Caller, r *http.Request, byPerson bool) error {
	cookie, err := r.Cookie(SessionCookie)
	if err != nil || a.signIn == nil {
		return nil //nolint:nilerr // there is no cookie
	}
	if err := a.authenticateSession(c, cookie.Value, byPerson); !errors.Is(err, access.ErrUnknown) {
		return err
	}
	return nil
}

// authenticateSession sets c's grants from a session's secret. A session counts only while a replica is in contact with
// its store: its end may be unknown here else (R29).
func (a *Auth) authenticateSession(c *api.Caller, secret string, byPerson bool) error {
	if a.signIn == nil {
		return access.ErrUnknown
	}
	hash := identity.HashSecret(secret)
	who, grants, until, err := a.signIn.Session(hash, byPerson)
	if err != nil {
		return err
	}
	if a.CheckFresh() != nil {
		return errStale
	}
	c.Person, c.Grants, c.Name, c.Until, c.Session = &who, grants, who.Label(), until, hash
	return nil
}

// authenticateWorkload sets c's grants from a token of a workload's issuer.
func (a *Auth) authenticateWorkload(ctx context.Context, c *api.Caller, token string) error {
	if a.signIn == nil {
		return access.ErrUnknown
	}
	who, grants, until, err := a.signIn.Workload(ctx, token)
	if err != nil {
		return err
	}
	c.Person, c.Grants, c.Name, c.Until = &who, grants, who.Label(), until
	return nil
}
