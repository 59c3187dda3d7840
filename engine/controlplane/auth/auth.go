// Package auth identifies and authorises callers. No other package does.
//
// Cells are identified by the key that their connection proved at the cells' listener, looked up in the newest roster
// for every request. Operators send tokens that have roles; people who signed in send the secret of a session, and
// workloads a token of their issuer's, and both have the roles that sluice.yaml gives them (SignedIn). A unix socket is
// the machine administrator's, and everyone on the machine may read over plain loopback. Without a cells' listener
// cells name themselves, on this machine only. A new way to sign in belongs here and ends in an api.Caller with grants.
//
// A removed token, session or key becomes invalid within seconds, for open streams too (StillAllowsCell,
// StillAllowsRole). A refused caller is not told the reason, which goes to the log. All methods may be called from any
// goroutine.
package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2/queryparam"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
)

// Members maps keys to cells.
type Members interface {
	Roster() *roster.Roster
	RosterChanged() <-chan struct{} // closed when Roster returns a newer roster
	// CheckFresh returns an error if the roster may be outdated (R29).
	CheckFresh() error
	// RetirePreviousKey retires the cell's previous key after the first use of its next key.
	RetirePreviousKey(ctx context.Context, cell, key string) error
	// ChangeIdentity durably changes a cell's identity; by is for the commit.
	ChangeIdentity(ctx context.Context, cell, by string, change func(*cells.Identity)) error
}

// Tokens stores operators' tokens by the hash of their secrets, and the audit.
type Tokens interface {
	Tokens(ctx context.Context) ([]access.Token, error)    // all tokens, expired ones too
	RecordAudit(ctx context.Context, e access.Entry) error // durable when it returns
}

// Options configures Auth. Metrics is required, and View if there are Members.
type Options struct {
	Members Members // nil if cells have no keys
	View    func() *view.View
	Tokens  Tokens   // nil if there are no tokens
	SignIn  SignedIn // nil: nobody can sign in
	// ConsoleAs is whom everyone at plain loopback is taken for on the console's pages; nil: for nobody, who may read
	ConsoleAs *access.Person
	Facts     Facts // nil: refused former keys are only logged
	Keyed     bool  // cells are served at a listener of their own, by key
	Log       zerolog.Logger
	Metrics   *metrics.Metrics
}

// Auth identifies and authorises callers.
type Auth struct {
	members    Members
	view       func() *view.View
	tokens     Tokens
	signIn     SignedIn
	consoleAs  *access.Person
	keyed      bool
	log        zerolog.Logger
	metrics    *metrics.Metrics
	tokenCache tokenCache
	boots      bootWatch
	formerKeys formerKeys
	refusals   refusals

	crossOrigin http.CrossOriginProtection
}

// New returns an Auth and starts nothing.
func New(o Options) *Auth {
	return &Auth{members: o.Members, view: o.View, tokens: o.Tokens, signIn: o.SignIn, consoleAs: o.ConsoleAs,
		keyed: o.Keyed, log: o.Log, metrics: o.Metrics,
		tokenCache: tokenCache{tokens: o.Tokens, clockStart: time.Now()},
		boots:      bootWatch{clockStart: time.Now(), cells: map[string]*sightings{}},
		formerKeys: formerKeys{facts: o.Facts, noted: map[string]time.Time{}},
		refusals:   refusals{tokens: o.Tokens, log: o.Log}}
}

// Close stores what was gathered of refused requests. Later refusals are not in the audit.
func (a *Auth) Close() { a.refusals.close() }

// Serves reports whether a route exists at a listener.
func (a *Auth) Serves(listener api.Listener, r *api.Route) bool {
	switch r.Audience {
	case api.AnyKey:
		return listener == api.Cells
	case api.Cell:
		return listener == api.Cells ||
			!a.keyed && !r.RequiresKey && (listener == api.Loopback || listener == api.Socket)
	default:
		return listener != api.Cells
	}
}

// Admit identifies the caller of a route that Serves and reports whether the caller may use it. If not, Admit has
// written the response.
func (a *Auth) Admit(
	w http.ResponseWriter, r *http.Request, route *api.Route, listener api.Listener,
) (*api.Caller, bool) {
	if listener != api.Cells && (fromForeignPage(r, route, listener) || a.crossOrigin.Check(r) != nil) {
		api.WriteProblem(w, http.StatusForbidden, "A page of another site asked for this, which no page may.")
		return nil, false
	}
	if route.Audience == api.Cell || route.Audience == api.AnyKey {
		// Freshness is tested before the lookup: a starting replica could become fresh between the two, after not
		// finding the cell.
		switch err := a.CheckFresh(); {
		case errors.Is(err, engine.ErrNotReady):
			api.WriteNotReady(w)
			return nil, false
		case err != nil:
			writeStale(w)
			return nil, false
		}
	}
	c, epoch, err := a.identify(r, route, listener)
	switch {
	case errors.Is(err, access.ErrUnknown):
		a.refusals.note(whoWrongToken, describeRequest(r), r.RemoteAddr)
		WriteUnauthorized(w, listener)
		return c, false
	case errors.Is(err, engine.ErrNotReady):
		api.WriteNotReady(w)
		return c, false
	case errors.Is(err, errStale):
		writeStale(w)
		return c, false
	case errors.Is(err, errTooManyUnknown):
		a.metrics.CountShed("tokens")
		a.refusals.note(whoWrongToken, describeRequest(r), r.RemoteAddr)
		api.SetRetryAfter(w, 2)
		api.WriteProblem(w, http.StatusTooManyRequests,
			"Too many wrong tokens are being tried: ask again after the time in Retry-After.")
		return c, false
	case err != nil:
		api.WriteError(w, err)
		return c, false
	}
	switch status := refusalStatus(c, route.Audience, a.channelOf(route, r)); {
	case status == http.StatusUnauthorized:
		if listener == api.Cells && a.members != nil {
			a.log.Debug().Str("key", c.Key).Str("from",
				c.RemoteAddr).Msg("shut out: " + a.members.Roster().RejectionReason(c.Key))
			if cell, had := a.members.Roster().CellOfFormerKey(c.Key); had {
				a.refuseFormerKey(w, r, c, cell)
				return c, false
			}
		}
		if a.leadsToSignIn(r, route, listener) {
			w.Header().Set("Location", LoginPath+"?return="+url.QueryEscape(pageOf(r)))
			w.WriteHeader(http.StatusFound) // of a form that was sent too: its page is loaded, and nothing is done
			return c, false
		}
		WriteUnauthorized(w, listener)
	case status == http.StatusForbidden:
		a.noteRefusedRole(r, route, c)
		api.WriteProblem(w, status, "This requires the role "+string(route.Audience)+": ask for a token that has it, "+
			"or have access in sluice.yaml give it to you.")
	case route.Audience == api.Cell && !a.namesOwnCell(c, r):
		a.RefuseCell(w, r, c, queryparam.Get(r.URL.RawQuery, "cell"))
	case route.Audience == api.Cell && a.foundClone(r.Context(), c, epoch):
		WriteUnauthorized(w, listener)
	default:
		a.retirePreviousKey(r.Context(), c)
		return c, true
	}
	return c, false
}

// identify identifies the caller of a route as far as possible without the body, and returns the epoch of a cell's
// identity at the cells' listener.
func (a *Auth) identify(r *http.Request, route *api.Route, listener api.Listener) (*api.Caller, int64, error) {
	switch {
	case route.Audience == api.Public || route.Audience == api.Hook: // probes must not wait for the store
		return &api.Caller{Listener: listener, RemoteAddr: r.RemoteAddr}, 0, nil
	case listener == api.Cells:
		p := a.identifyPeer(r)
		if route.Audience == api.Cell {
			return p.caller, p.epoch, nil
		}
		own := *p.caller // who registers is named later
		return &own, p.epoch, nil
	}
	c, err := a.identifyCaller(r, route, listener)
	return c, 0, err
}

// fromForeignPage reports whether a browser sent the request for a page of another site (R57). Links to pages are fine,
// frames are not. At loopback, another port is another site.
func fromForeignPage(r *http.Request, route *api.Route, listener api.Listener) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	case "same-site":
		if listener == api.People {
			return false
		}
	}
	isPage := route.Page && route.Method == http.MethodGet // a form that is sent is no link
	if route.Audience != api.Public && (!isPage || r.Header.Get("Sec-Fetch-Dest") != "document") {
		return true
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// retirePreviousKey retires the cell's previous key after the first use of its next key.
func (a *Auth) retirePreviousKey(ctx context.Context, c *api.Caller) {
	if !c.NewKey {
		return
	}
	if err := a.members.RetirePreviousKey(ctx, c.Cell, c.Key); err != nil { // the previous key stays valid for a while
		a.log.Warn().Err(err).Str("cell", c.Cell).Msg("the cell's previous key stays valid")
	}
}

// identifyCaller identifies the caller as far as possible without the body, but at the cells' listener. It returns
// access.ErrUnknown for an invalid token.
func (a *Auth) identifyCaller(r *http.Request, route *api.Route, listener api.Listener) (*api.Caller, error) {
	c := &api.Caller{Listener: listener, RemoteAddr: r.RemoteAddr}
	if listener == api.Socket || listener == api.Loopback {
		c.Cell = queryparam.Get(r.URL.RawQuery, "cell")
	}
	header := r.Header.Get("Authorization")
	switch {
	case header != "":
		err := a.authenticateToken(r.Context(), c, access.BearerSecret(header), isByPerson(route, r))
		if err == nil {
			peerOf(r.Context()).welcome()
		}
		return c, err
	case listener == api.Socket:
		c.Grants.Everywhere, c.Name = access.Roles{access.Admin}, "administrator of this machine"
	case listener == api.Loopback:
		a.identifyAtLoopback(c, route)
	case listener == api.People:
		if err := a.authenticateCookie(c, r, isByPerson(route, r)); err != nil {
			return c, err
		}
	}
	if c.Grants.Any() {
		peerOf(r.Context()).welcome()
	}
	return c, nil
}

// isByPerson reports whether a person asked: an open page asks for some things by itself, and marks a load of the page
// that it begins. Whoever sets the mark shortens nobody's session but their own.
func isByPerson(route *api.Route, r *http.Request) bool {
	return !route.Background && !(route.Page && queryparam.Get(r.URL.RawQuery, "unasked") != "")
}

// consolePath begins the paths of the console's routes.
const consolePath = "/ui/"

// identifyAtLoopback says who a caller at plain loopback is: somebody on this machine, who may read. On the console's
// routes it is the person of ConsoleAs, with the roles that sluice.yaml gives that address, too.
func (a *Auth) identifyAtLoopback(c *api.Caller, route *api.Route) {
	if a.consoleAs == nil || !strings.HasPrefix(route.Path, consolePath) {
		c.Grants.Everywhere = access.Roles{access.Viewer}
		return
	}
	if v := a.view(); v != nil {
		c.Grants = access.GrantsOf(v.Desired.Pipeline.Access, *a.consoleAs)
	}
	if !c.Grants.Permits(access.Viewer, "") {
		c.Grants.Everywhere = append(slices.Clone(c.Grants.Everywhere), access.Viewer)
	}
	c.Person, c.Name = a.consoleAs, a.consoleAs.Label()
}

// channelOf returns the channel that a request of the route concerns; empty: none, several, or an unknown one.
func (a *Auth) channelOf(route *api.Route, r *http.Request) string {
	if route.OfChannel {
		return r.URL.Query().Get("channel")
	}
	if !route.OfCell || a.view == nil {
		return ""
	}
	if v := a.view(); v != nil {
		if cell := v.Desired.Cells[cmp.Or(r.PathValue("name"), r.URL.Query().Get("cell"))]; cell != nil {
			return cell.Channel
		}
	}
	return ""
}

// authenticateToken sets c's grants and name from a token. An invalid token is refused even where none is needed.
func (a *Auth) authenticateToken(ctx context.Context, c *api.Caller, secret string, byPerson bool) error {
	switch {
	case secret == "":
		return access.ErrUnknown
	case strings.HasPrefix(secret, access.SessionPrefix):
		return a.authenticateSession(c, secret, byPerson)
	case strings.Count(secret, ".") == 2: // a JWT; secrets of ours have no dots
		return a.authenticateWorkload(ctx, c, secret)
	}
	c.TokenHash = identity.HashSecret(secret)
	t, err := a.tokenCache.lookUp(ctx, c.TokenHash)
	if err == nil {
		c.Grants.Everywhere, c.Name, c.Until = t.Roles, t.Name, t.Expires
	}
	return err
}

// StillAllowsRole reports whether a caller admitted earlier may still use a people's route: the token may have been
// removed, or the session ended.
func (a *Auth) StillAllowsRole(ctx context.Context, c *api.Caller, audience api.Audience) bool {
	return a.StillAllowsRoleIn(ctx, c, audience, "")
}

// StillAllowsRoleIn is StillAllowsRole for a route that concerns a channel; empty: none, or several.
func (a *Auth) StillAllowsRoleIn(ctx context.Context, c *api.Caller, audience api.Audience, channel string) bool {
	switch {
	case !c.Until.IsZero() && time.Now().After(c.Until):
		return false
	case c.Session != "":
		_, g, _, err := a.signIn.Session(c.Session, false) // an open stream is no use
		return err == nil && a.CheckFresh() == nil && g.Permits(access.Role(audience), channel)
	case c.TokenHash == "":
		return true
	}
	t, err := a.tokenCache.lookUp(ctx, c.TokenHash)
	return err == nil && t.Roles.Permits(access.Role(audience))
}

// refusalStatus returns the HTTP status with which a caller is refused, or 0 if the caller is admitted. channel is the
// one that the request concerns; empty: none, or several.
func refusalStatus(c *api.Caller, audience api.Audience, channel string) int {
	switch audience {
	case api.Public, api.Hook:
		return 0
	case api.AnyKey:
		if c.Key != "" {
			return 0
		}
	case api.Cell:
		if c.Listener != api.Cells || c.Key != "" && c.Cell != "" {
			return 0
		}
	default:
		if c.Grants.Permits(access.Role(audience), channel) {
			return 0
		}
		if c.Name != "" {
			return http.StatusForbidden
		}
	}
	return http.StatusUnauthorized
}

// namesOwnCell reports whether every cell that the request's query names is the caller's own.
func (a *Auth) namesOwnCell(c *api.Caller, r *http.Request) bool {
	named := queryparam.Get(r.URL.RawQuery, "cell")
	return named == "" || a.MaySpeakFor(c, named)
}

// MaySpeakFor reports whether c may act as a cell: as its own; at a plain listener, as any cell without a key.
func (a *Auth) MaySpeakFor(c *api.Caller, cell string) bool {
	if c.Listener == api.Cells {
		return c.Cell == cell
	}
	return a.members == nil || !a.members.Roster().HasKey(cell)
}

// CheckFresh returns an error if a revocation may be unknown here (R29).
func (a *Auth) CheckFresh() error {
	if a.members == nil {
		return nil
	}
	return a.members.CheckFresh()
}

// WriteUnauthorized answers 401, the same for every unidentified caller (fault 39).
func WriteUnauthorized(w http.ResponseWriter, listener api.Listener) {
	if listener == api.Cells {
		// Anyone can make a key, so that a key alone must not hold a connection open.
		w.Header().Set("Connection", "close")
		api.WriteProblem(w, http.StatusUnauthorized,
			"This key or token is not valid: ask the cell's administrator to make a new token with sluice cell add.")
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
	api.WriteProblem(w, http.StatusUnauthorized,
		"A valid token is required in the header Authorization: Bearer …: sluice token add makes one, and a unix "+
			"socket needs none. People sign in with sluice login, or in a browser at "+LoginPath+", where that is set up.")
}

// refuseFormerKey answers 401 to a machine that has proved a key that its cell had before. It is told so: whoever has
// that key was the cell.
func (a *Auth) refuseFormerKey(w http.ResponseWriter, r *http.Request, c *api.Caller, cell string) {
	due, err := a.formerKeys.note(r.Context(), cell, time.Now())
	if due {
		a.log.Warn().Err(err).Str("cell", cell).Str("from", c.RemoteAddr).Msg("a former key of this cell was refused: its " +
			"machine was restored from an old snapshot, or a copy of it runs; sluice cell add " + cell +
			" makes a token that lets it in")
	}
	w.Header().Set("Connection", "close")
	api.WriteProblem(w, http.StatusUnauthorized,
		"This key was the cell's and was replaced since: the state folder is older than that, such as one from a "+
			"snapshot. Ask the cell's vendor for a new token (sluice cell add), and start the agent with it.")
}

// noteRefusedRole notes that an identified caller has not the role that a route requires. Workloads and people whom
// sluice.yaml gives no role are strangers, of whom there can be any number.
func (a *Auth) noteRefusedRole(r *http.Request, route *api.Route, c *api.Caller) {
	who, what := c.Name, describeRequest(r)+", which requires the role "+string(route.Audience)
	if !c.Grants.Any() {
		who, what = whoNoRole, fmt.Sprintf("%.100q, for %s", c.Name, what)
	}
	a.refusals.note(who, what, r.RemoteAddr)
}

// describeRequest returns a request's method and path, without what a query may hold.
func describeRequest(r *http.Request) string {
	return r.Method + " " + words.Clip(r.URL.EscapedPath(), 200)
}

// cellHeader names, in a 403, the cell that the connection's key is of: the cell may have been renamed.
const cellHeader = "Sluice-Cell"

// RefuseCell answers 403 to a cell that acts as another, which it named.
func (a *Auth) RefuseCell(w http.ResponseWriter, r *http.Request, c *api.Caller, named string) {
	if c.Name != "" { // else the cell named itself, and proved nothing
		a.refusals.note(c.Name, fmt.Sprintf("%s as cell %.100q", describeRequest(r), named), r.RemoteAddr)
	}
	detail := "One cell can't ask or report for another, and a cell that has a key must use it."
	if c.Listener == api.Cells && c.Cell != "" {
		w.Header().Set(cellHeader, c.Cell)
		detail = "One cell can't ask or report for another: the key is that of cell " + c.Cell + "."
	}
	api.WriteProblem(w, http.StatusForbidden, detail)
}

// RosterChanged is closed when the roster changes. It is nil if cells have no keys.
func (a *Auth) RosterChanged() <-chan struct{} {
	if a.members == nil {
		return nil
	}
	return a.members.RosterChanged()
}

// StillAllowsCell reports whether a caller admitted earlier may still act as its cell.
func (a *Auth) StillAllowsCell(c *api.Caller) bool {
	if a.members == nil {
		return true
	}
	if c.Listener != api.Cells {
		return !a.members.Roster().HasKey(c.Cell)
	}
	name, ok := a.members.Roster().CellOfKey(c.Key)
	return ok && name == c.Cell
}

// EpochOf returns the epoch of a cell's identity; 0: it has none.
func (a *Auth) EpochOf(cell string) int64 {
	if a.members == nil {
		return 0
	}
	return a.members.Roster().Identity(cell).Epoch
}

// KeysOf returns the present and the previous key of a caller's cell, the caller's own first.
func (a *Auth) KeysOf(c *api.Caller) []string {
	if c.Key == "" || a.members == nil {
		return nil
	}
	i := a.members.Roster().Identity(c.Cell)
	return slices.DeleteFunc([]string{c.Key, i.PublicKey, i.Previous}, func(key string) bool { return key == "" })
}

// InvalidateTokens makes the next lookup read all tokens again. It is called after a change of tokens.
func (a *Auth) InvalidateTokens() { a.tokenCache.invalidate() }

// Audit durably records what a caller is about to do. After an error the caller must not do it.
func (a *Auth) Audit(ctx context.Context, c *api.Caller, what string) error {
	if a.tokens == nil {
		return nil
	}
	a.log.Info().Str("by", c.Name).Str("from", c.RemoteAddr).Msg(what)
	return a.tokens.RecordAudit(ctx, access.Entry{At: time.Now(), Who: c.Name, What: what, From: c.RemoteAddr})
}
