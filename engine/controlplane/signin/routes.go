package signin

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
)

const (
	callbackPath = "/auth/callback"
	flowCookie   = "__Host-sluice-signin"
	flowCookies  = 8  // at most: requests carry them all, and their headers are bounded
	maxSignIns   = 64 // that wait for the provider at once
	notEnabled   = "Nobody can sign in here: start sluice serve with --oidc-issuer (docs/signin.md), or use a token."
	onlyHTTPS    = "Signing in works at the https:// address of this server only."
)

// API has the routes by which people sign in and out.
type API struct {
	service  *Service // nil or not enabled: nobody can sign in
	inFlight limit.InFlight
	log      zerolog.Logger
}

// NewAPI returns the routes' handlers.
func NewAPI(s *Service, log zerolog.Logger) *API {
	return &API{service: s, inFlight: limit.InFlight{Limit: maxSignIns}, log: log}
}

// Routes returns the routes. They are there whether anybody can sign in or not.
func (a *API) Routes(api.Docs) []api.Route {
	op := func(id, summary string, errors ...int) huma.Operation {
		return huma.Operation{OperationID: id, Tags: []string{"sign-in"}, Summary: summary,
			Errors: append(errors, http.StatusServiceUnavailable)}
	}
	page := func(id, summary string, answer string, params ...*huma.Param) huma.Operation {
		o := op(id, summary, 400, 403, 404)
		o.Parameters = params
		o.Responses = map[string]*huma.Response{answer: {Description: summary}}
		return o
	}
	query := func(name, description string) *huma.Param {
		return api.Param(name, "query", description, api.TextSchema())
	}
	return []api.Route{
		{Method: http.MethodGet, Path: auth.LoginPath, Audience: api.Public, Handler: a.serveLogin,
			Operation: page("signIn", "To the identity provider, to sign in with a browser", "302",
				query("return", "the path to go to afterwards"))},
		{Method: http.MethodGet, Path: callbackPath, Audience: api.Public, Handler: a.serveCallback,
			Operation: page("signedIn", "Where the identity provider sends a browser back", "200",
				query("code", "as in OpenID Connect"), query("state", "as in OpenID Connect"), query("iss",
					"as in RFC 9207"),
				query("error", "as in OpenID Connect"), query("error_description", "as in OpenID Connect"))},
		{Method: http.MethodPost, Path: "/auth/logout", Audience: api.Public, Handler: a.serveLogout,
			Operation: page("signOut", "End the session of the cookie or the bearer", "204")},
		{Method: http.MethodPost, Path: "/auth/device", Audience: api.Public, Typed: api.Typed(a.startDevice),
			Operation: op("startDevice", "Begin to sign in on a device without a browser", 400, 404, 429)},
		{Method: http.MethodPost, Path: "/auth/device/token", Audience: api.Public, Typed: api.Typed(a.finishDevice),
			Operation: op("finishDevice", "The token, once the person is done; 202 before", 400, 403, 404, 429)},
		{Method: http.MethodGet, Path: "/v1/me", Audience: api.Viewer, Typed: api.Typed(a.showCaller),
			Operation: op("me", "Who asks, and with which roles")},
		{Method: http.MethodGet, Path: "/v1/sessions", Audience: api.Admin, Typed: api.Typed(a.listSessions),
			Operation: op("sessions", "Who is signed in")},
		{Method: http.MethodDelete, Path: "/v1/sessions/{id}", Audience: api.Admin, Typed: api.Typed(a.endSession),
			Operation: op("endSession", "End a session, everywhere within 2 s", 404)},
	}
}

// acceptsSignIn reports whether people can sign in at the caller's listener, or else has answered.
func (a *API) acceptsSignIn(w http.ResponseWriter, c *api.Caller) bool {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	switch {
	case a.service == nil || !a.service.Enabled():
		api.WriteProblem(w, http.StatusNotFound, notEnabled)
	case c.Listener != api.People:
		api.WriteProblem(w, http.StatusNotFound, onlyHTTPS)
	default:
		return true
	}
	return false
}

// flowCookieOf returns the name of the cookie of the sign-in with a state: several tabs may sign in at once.
func flowCookieOf(state string) string {
	return fmt.Sprintf("%s-%d", flowCookie, crc32.ChecksumIEEE([]byte(state))%flowCookies)
}

func (a *API) serveLogin(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if !a.acceptsSignIn(w, c) || !a.acquire(w) {
		return
	}
	defer a.inFlight.Release()
	to, state, cookie, err := a.service.Start(r.Context(), "https://"+r.Host+callbackPath, r.URL.Query().Get("return"))
	if err != nil {
		a.writeRefusal(w, err)
		return
	}
	setCookie(w, flowCookieOf(state), cookie, flowLifetime)
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

func (a *API) acquire(w http.ResponseWriter) bool {
	if a.inFlight.Acquire() {
		return true
	}
	api.SetRetryAfter(w, 2)
	api.WriteProblem(w, http.StatusServiceUnavailable, "Too many people are signing in: try again in a moment.")
	return false
}

// setCookie sets a cookie that scripts can't read and that only this host gets, over https://.
func setCookie(w http.ResponseWriter, name, value string, lasts time.Duration) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(lasts / time.Second)}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// welcome leads the browser on from a page of this host: what the provider's page redirects to would count as asked for
// by another site.
var welcome = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={{.}}"><title>Signed in</title>
<p>You are signed in. <a href="{{.}}">Go on</a></p>
</html>
`))

func (a *API) serveCallback(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if !a.acceptsSignIn(w, c) || !a.acquire(w) {
		return
	}
	defer a.inFlight.Release()
	q := r.URL.Query()
	said := Callback{Cookie: cookieValue(r, flowCookieOf(q.Get("state"))), Code: q.Get("code"), State: q.Get("state"),
		Issuer: q.Get("iss"),
		Error:  q.Get("error"), Description: q.Get("error_description"), From: c.RemoteAddr}
	if before := cookieValue(r, auth.SessionCookie); before != "" {
		said.Before = identity.HashSecret(before)
	}
	secret, returnTo, err := a.service.Finish(r.Context(), said)
	if err != nil {
		a.writeRefusal(w, err)
		return
	}
	setCookie(w, flowCookieOf(said.State), "", 0) // of one that failed it ends by itself: it may be another tab's
	setCookie(w, auth.SessionCookie, secret, browserLifetime)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	_ = welcome.Execute(w, returnTo) // an error means that the client has gone
}

func cookieValue(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// serveLogout ends the session of the cookie, or of the bearer, and tells nobody whether there was one.
func (a *API) serveLogout(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if !a.acceptsSignIn(w, c) {
		return
	}
	secrets := []string{cookieValue(r, auth.SessionCookie), access.BearerSecret(r.Header.Get("Authorization"))}
	for _, secret := range secrets {
		if !strings.HasPrefix(secret, access.SessionPrefix) {
			continue
		}
		if err := a.service.SignOut(r.Context(), identity.HashSecret(secret), c.RemoteAddr); err != nil {
			api.WriteError(w, err)
			return
		}
	}
	setCookie(w, auth.SessionCookie, "", 0)
	w.WriteHeader(http.StatusNoContent)
}

// writeRefusal answers with why somebody could not sign in.
func (a *API) writeRefusal(w http.ResponseWriter, err error) {
	status, detail, known := describeRefusal(err)
	if !known {
		api.WriteError(w, err)
		return
	}
	if status == http.StatusServiceUnavailable {
		api.SetRetryAfter(w, 5)
		a.log.Warn().Err(err).Msg("sign-in")
	}
	api.WriteProblem(w, status, detail)
}

func describeRefusal(err error) (status int, detail string, known bool) {
	refusal := new(Refusal)
	if !errors.As(err, &refusal) {
		return 0, "", false
	}
	switch {
	case refusal.Denied:
		status = http.StatusForbidden
	case refusal.Unavailable:
		status = http.StatusServiceUnavailable
	default:
		status = http.StatusBadRequest
	}
	return status, strings.TrimSuffix(refusal.Message, ".") + ".", true
}

// checkCaller returns an error if nobody can sign in where the caller asks.
func (a *API) checkCaller(ctx context.Context) error {
	switch {
	case a.service == nil || !a.service.Enabled():
		return huma.Error404NotFound(notEnabled)
	case api.CallerOf(ctx).Listener != api.People:
		return huma.Error404NotFound(onlyHTTPS)
	case !a.inFlight.Acquire():
		return huma.Error503ServiceUnavailable("Too many people are signing in: try again in a moment.")
	}
	return nil
}

// explain returns an error of the service as a response.
func (a *API) explain(err error) error {
	if status, detail, known := describeRefusal(err); known {
		a.log.Warn().Err(err).Msg("sign-in by device")
		return huma.NewError(status, detail)
	}
	status, detail, unexpected := api.DescribeError(err)
	if unexpected {
		a.log.Error().Err(err).Msg("sign-in by device")
	}
	return huma.NewError(status, detail)
}

type deviceOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         Device
}

func (a *API) startDevice(ctx context.Context, _ *struct{}) (*deviceOutput, error) {
	if err := a.checkCaller(ctx); err != nil {
		return nil, err
	}
	defer a.inFlight.Release()
	d, err := a.service.StartDevice(ctx)
	if err != nil {
		return nil, a.explain(err)
	}
	return &deviceOutput{CacheControl: "no-store", Body: d}, nil
}

// DeviceToken is the answer to a device: a token, or that it is to ask again.
type DeviceToken struct {
	Token    string    `json:"token,omitempty" doc:"for the header Authorization: Bearer; empty: the person is not done"`
	Ends     time.Time `json:"ends,omitzero"`
	SlowDown bool      `json:"slowDown,omitempty" doc:"ask 5 seconds less often from now on"`
}

type deviceTokenInput struct {
	Body struct {
		Handle string `json:"handle" maxLength:"8192"`
	}
}

type deviceTokenOutput struct {
	Status       int
	CacheControl string `header:"Cache-Control"`
	Body         DeviceToken
}

func (a *API) finishDevice(ctx context.Context, in *deviceTokenInput) (*deviceTokenOutput, error) {
	if err := a.checkCaller(ctx); err != nil {
		return nil, err
	}
	defer a.inFlight.Release()
	secret, ends, err := a.service.FinishDevice(ctx, in.Body.Handle, api.CallerOf(ctx).RemoteAddr)
	out := &deviceTokenOutput{Status: http.StatusOK, CacheControl: "no-store"}
	switch {
	case errors.Is(err, ErrPending), errors.Is(err, ErrSlowDown):
		out.Status, out.Body.SlowDown = http.StatusAccepted, errors.Is(err, ErrSlowDown)
	case err != nil:
		return nil, a.explain(err)
	default:
		out.Body = DeviceToken{Token: secret, Ends: ends}
	}
	return out, nil
}

// Me is who asks.
type Me struct {
	Name    string `json:"name,omitempty" doc:"as the audit says it; empty: whoever is on this machine"`
	Issuer  string `json:"issuer,omitempty" doc:"of who signed in, or of a workload"`
	Subject string `json:"subject,omitempty"`
	access.Grants
	Until time.Time `json:"until,omitzero" doc:"when the session or the token ends at the latest"`
}

type meOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         Me
}

func (a *API) showCaller(ctx context.Context, _ *struct{}) (*meOutput, error) {
	c := api.CallerOf(ctx)
	out := &meOutput{CacheControl: "no-store", Body: Me{Name: c.Name, Grants: c.Grants, Until: c.Until}}
	if c.Person != nil {
		out.Body.Issuer, out.Body.Subject = c.Person.Issuer, c.Person.Subject
	}
	return out, nil
}

type sessionsOutput struct {
	Body struct {
		Sessions []Session `json:"sessions" doc:"oldest first"`
	}
}

func (a *API) listSessions(context.Context, *struct{}) (*sessionsOutput, error) {
	out := &sessionsOutput{}
	out.Body.Sessions = []Session{}
	if a.service != nil {
		out.Body.Sessions = append(out.Body.Sessions, a.service.Sessions()...)
	}
	return out, nil
}

type sessionInput struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) endSession(ctx context.Context, in *sessionInput) (*struct{}, error) {
	err := access.ErrUnknown
	if a.service != nil {
		c := api.CallerOf(ctx)
		err = a.service.EndSession(ctx, in.ID, c.Name, c.RemoteAddr)
	}
	if errors.Is(err, access.ErrUnknown) {
		return nil, huma.Error404NotFound("There is no such session: it may have ended.")
	}
	if err != nil {
		return nil, a.explain(err)
	}
	return nil, nil
}
