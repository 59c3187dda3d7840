// Package signin lets people sign in at an OpenID Connect provider, with a browser or by device flow, and recognises
// the tokens of workloads, such as CI.
//
// A browser signs in by authorization code with PKCE; what the provider answers is checked as OpenID Connect Core and
// RFC 9207 say (provider). The result is a session: a secret of 256 bits whose hash is a record of the store. It lives
// independently of the ID token: 12 h without use, 7 days at most. Each hour the provider is asked again, so that
// who leaves is out within the hour; while the provider is down, sessions go on. Every replica has all sessions in
// memory and hears of changes by the store, so that a request reads no store, and an ended session is refused
// everywhere within 2 s.
//
// The package gives no roles: access in sluice.yaml does (access.GrantsOf), at the time of each request. It never
// stores a secret of a session, and stores refresh tokens only encrypted. All methods may be called from any goroutine.
package signin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/records"
)

// Watch says which records of sessions other processes wrote.
type Watch interface {
	Changed() <-chan struct{}               // receives after writes
	Take() (keys []string, everything bool) // what to read again
}

// Recorder hears who signed in, was refused, and signed out.
type Recorder interface {
	RecordAudit(ctx context.Context, e access.Entry) error // durable when it returns
}

// Options configures a Service. Records, Access, Recorder and Workloads are required.
type Options struct {
	Provider ProviderOptions // without an Issuer, nobody can sign in, and only workloads are recognised
	Records  records.Store
	Watch    Watch // nil: no other process writes
	Key      Key   // encrypts refresh tokens and the state of sign-ins; replicas share it
	// Access returns access in sluice.yaml; ok is false while it has not been read.
	Access    func() (a *channels.Access, ok bool)
	Recorder  Recorder
	Workloads *http.Client // asks the issuers of workloads, which sluice.yaml names
	Now       func() time.Time
	Log       zerolog.Logger
}

// Service signs people in and recognises workloads.
type Service struct {
	provider  *provider // nil: nobody can sign in
	sessions  *sessions
	workloads *workloads
	watch     Watch
	records   records.Store
	key       Key
	access    func() (*channels.Access, bool)
	recorder  Recorder
	now       func() time.Time
	log       zerolog.Logger
}

// New returns a Service and starts nothing: see Run.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{watch: o.Watch, records: o.Records, key: o.Key, access: o.Access, recorder: o.Recorder, now: o.Now,
		log: o.Log, sessions: newSessions(o), workloads: newWorkloads(o)}
	if o.Provider.Issuer != "" {
		s.provider = newProvider(o.Provider, o.Now)
	}
	return s
}

// Enabled reports whether people can sign in.
func (s *Service) Enabled() bool { return s.provider != nil }

// Refusal is why somebody could not sign in, in words that are safe to show, with the next step.
type Refusal struct {
	Message string
	// Denied: the provider or sluice.yaml said no. Else the request was not as it should be, or nothing answers.
	Denied      bool
	Unavailable bool  // the provider can't be reached: try again
	cause       error // for the log
}

func (r *Refusal) Error() string {
	if r.cause != nil {
		return r.Message + " (" + r.cause.Error() + ")"
	}
	return r.Message
}

func (r *Refusal) Unwrap() error { return r.cause }

const (
	flowLifetime = 10 * time.Minute
	statesKind   = "sign-in-states" // used states of sign-ins
)

// flow is a sign-in under way in a browser, which keeps it, encrypted, in a cookie.
type flow struct {
	State, Nonce, Verifier, Return, Redirect string
	Until                                    time.Time
}

const flowPurpose = "sign-in under way"

// Start returns where to send a browser to sign in, with a state, and the value of the cookie that it has to bring
// back. redirect is the address of the callback, returnTo where the browser goes afterwards.
func (s *Service) Start(ctx context.Context, redirect, returnTo string) (to, state, cookie string, err error) {
	f := flow{Return: CleanReturn(returnTo), Redirect: redirect, Until: s.now().Add(flowLifetime)}
	for _, value := range []*string{&f.State, &f.Nonce, &f.Verifier} {
		if *value, err = newSecret(); err != nil {
			return "", "", "", err
		}
	}
	if to, err = s.provider.authoriseURL(ctx, f); err != nil {
		return "", "", "", err
	}
	cookie, err = s.key.sealJSON(flowPurpose, f)
	return to, f.State, cookie, err
}

// Callback is what the provider sent a browser back with.
type Callback struct {
	Cookie                     string // of Start
	Code, State, Issuer        string
	Error, Description, Before string // Before is the hash of the browser's session so far; empty: none
	From                       string // the peer's address
}

// Finish signs somebody in and returns the session's secret and where the browser goes. It returns a Refusal if it
// does not.
func (s *Service) Finish(ctx context.Context, c Callback) (secret, returnTo string, err error) {
	var f flow
	const again = "sign in again at /auth/login"
	switch {
	case c.Cookie == "":
		return "", "", &Refusal{Message: "This browser did not begin to sign in here, or took longer than 10 minutes: " + again}
	case s.key.openJSON(flowPurpose, c.Cookie, &f) != nil || !s.now().Before(f.Until):
		return "", "", &Refusal{Message: "This sign-in took longer than 10 minutes, or another replica with another " +
			"key began it: " + again}
	case c.State == "" || !equal(c.State, f.State):
		return "", "", &Refusal{Message: "The answer belongs to another sign-in of this browser: " + again}
	}
	if err := s.provider.checkResponseIssuer(ctx, c.Issuer); err != nil {
		return "", "", s.refuse(ctx, access.Person{}, c.From, err)
	}
	if c.Error != "" {
		return "", "", s.refuse(ctx, access.Person{}, c.From, &Refusal{Denied: true, Message: "The identity provider says " +
			clip(c.Error+" "+c.Description) + ": " + again})
	}
	if err := s.useState(ctx, f.State); err != nil {
		return "", "", err
	}
	who, refresh, err := s.provider.exchange(ctx, f, c.Code)
	if err != nil {
		return "", "", s.refuse(ctx, who, c.From, err)
	}
	secret, err = s.begin(ctx, who, browser, refresh, c.From)
	if err != nil {
		return "", "", err
	}
	if c.Before != "" { // a browser has one session
		if err := s.sessions.end(ctx, c.Before); err != nil {
			s.log.Warn().Err(err).Msg("the browser's session before could not be ended")
		}
	}
	return secret, f.Return, nil
}

// useState returns a Refusal if a sign-in's state was used before, here or at another replica.
func (s *Service) useState(ctx context.Context, state string) error {
	_, err := s.records.Put(ctx, records.Record{Kind: statesKind, Key: hashOf(state), Body: []byte(`{}`)})
	if errors.Is(err, records.ErrConflict) {
		return &Refusal{Message: "This answer of the identity provider was used already: sign in again at /auth/login"}
	}
	return err
}

// begin makes a session for who has a role, and returns its secret.
func (s *Service) begin(ctx context.Context, who access.Person, kind, refresh, from string) (string, error) {
	rules, ok := s.access()
	if !ok {
		return "", errNotReady
	}
	grants := access.GrantsOf(rules, who)
	if !grants.Any() {
		return "", s.refuse(ctx, who, from, &Refusal{Denied: true, Message: noRoleMessage(who)})
	}
	if err := s.record(ctx, who, from, "sign in ("+kind+") with "+grants.String()); err != nil {
		return "", err
	}
	return s.sessions.begin(ctx, who, kind, refresh, from)
}

// noRoleMessage says why somebody has no role.
func noRoleMessage(who access.Person) string {
	text := "You signed in as " + clip(who.Label()) + ", and access in sluice.yaml gives you no role: "
	switch {
	case who.GroupsLeftOut:
		text += "the identity provider left your groups out, for they are too many: have it send only those that are " +
			"assigned to this application. "
	case len(who.Groups) == 0 && who.Email == "":
		text += "the identity provider sent neither groups nor a verified e-mail address. "
	case len(who.Groups) == 0:
		text += "the identity provider sent no groups. "
	}
	return text + "Have an owner add one of your groups or your address there (docs/signin.md)."
}

// refuse records a refusal, and returns err.
func (s *Service) refuse(ctx context.Context, who access.Person, from string, err error) error {
	refusal := new(Refusal)
	if !errors.As(err, &refusal) || refusal.Unavailable {
		return err
	}
	s.log.Warn().Err(err).Str("from", from).Msg("a sign-in was refused")
	if failed := s.record(ctx, who, from, "refused to sign in: "+refusal.Message); failed != nil {
		s.log.Warn().Err(failed).Msg("a refused sign-in is not in the audit")
	}
	return err
}

func (s *Service) record(ctx context.Context, who access.Person, from, what string) error {
	label := "nobody"
	if who.Subject != "" {
		label = clip(who.Label())
	}
	return s.recorder.RecordAudit(ctx, access.Entry{At: s.now(), Who: label, What: what, From: from})
}

// SignOut ends the session with a hash, and has the provider forget its refresh token.
func (s *Service) SignOut(ctx context.Context, hash, from string) error {
	found := s.sessions.find(hash)
	if found == nil {
		return nil
	}
	if err := s.record(ctx, found.Who, from, "sign out"); err != nil {
		return err
	}
	return s.endAndRevoke(ctx, found)
}

// endAndRevoke ends a session at every replica. The provider's part is best effort: what it keeps opens nothing here.
func (s *Service) endAndRevoke(ctx context.Context, found *session) error {
	if err := s.sessions.end(ctx, found.hash); err != nil {
		return err
	}
	if refresh, err := s.key.open(found.hash, found.Refresh); err == nil && s.provider != nil {
		if err := s.provider.revoke(ctx, string(refresh)); err != nil {
			s.log.Debug().Err(err).Msg("the identity provider did not revoke a refresh token")
		}
	}
	return nil
}

// Session implements auth.SignedIn.
func (s *Service) Session(hash string, byPerson bool) (access.Person, access.Grants, time.Time, error) {
	rules, ok := s.access()
	if !ok {
		return access.Person{}, access.Grants{}, time.Time{}, errNotReady
	}
	found, err := s.sessions.use(hash, byPerson)
	if err != nil {
		return access.Person{}, access.Grants{}, time.Time{}, err
	}
	return found.Who, found.grantsUnder(rules), found.Ends, nil
}

// Workload implements auth.SignedIn.
func (s *Service) Workload(ctx context.Context, token string) (access.Person, access.Grants, time.Time, error) {
	rules, ok := s.access()
	if !ok {
		return access.Person{}, access.Grants{}, time.Time{}, errNotReady
	}
	return s.workloads.identify(ctx, rules, token)
}

// grantsUnder caches a session's grants, which stay the same until sluice.yaml or the groups change.
func (s *session) grantsUnder(rules *channels.Access) access.Grants {
	if known := s.grants.Load(); known != nil && known.rules == rules {
		return known.grants
	}
	now := &cachedGrants{rules, access.GrantsOf(rules, s.Who)}
	s.grants.Store(now)
	return now.grants
}

type cachedGrants struct {
	rules  *channels.Access
	grants access.Grants
}

// CleanReturn returns a path of this host to go to after signing in, or the default for anything else.
func CleanReturn(path string) string {
	const home = "/ui/"
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }
	if len(path) > 1024 || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") ||
		strings.HasPrefix(path, "/auth/") || strings.ContainsFunc(path, bad) {
		return home
	}
	return path
}

// atomicGrants is the type of session.grants.
type atomicGrants = atomic.Pointer[cachedGrants]

// sortedUnique returns the texts in order, each once.
func sortedUnique(all []string) []string {
	slices.Sort(all)
	return slices.Clip(slices.Compact(all))
}
