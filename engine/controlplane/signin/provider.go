package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/access"
)

// ProviderOptions says which OpenID Connect provider people sign in at.
type ProviderOptions struct {
	Issuer       string // https:// URL; http:// on loopback
	ClientID     string
	ClientSecret string       // empty: a public client
	Scopes       []string     // empty: those of DefaultScopes that the provider says it has
	Prompt       string       // the parameter prompt, such as consent; empty: none
	GroupsClaim  string       // default: groups
	Client       *http.Client // asks the provider; required
}

// Validate returns what is wrong with the options.
func (o ProviderOptions) Validate() error {
	u, err := url.Parse(o.Issuer)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !identity.IsLocalHost(u.Hostname())):
		return fmt.Errorf("the issuer %.200q is not an https:// URL, such as https://accounts.google.com", o.Issuer)
	case o.ClientID == "":
		return errors.New("the client's id is missing: the provider shows it where the client is registered")
	}
	return nil
}

// DefaultScopes are asked for without others: groups where the provider has that scope, and offline_access for a
// refresh token, by which groups are read again.
func DefaultScopes() []string {
	return []string{"openid", "profile", "email", "groups", "offline_access"}
}

const (
	providerTimeout = 10 * time.Second // of one request to a provider
	maxResponse     = 1 << 20          // of one of its responses, in bytes
	clockLeeway     = time.Minute      // by which clocks may differ
	discoveryRetry  = 5 * time.Second  // after a failed discovery
	maxGroups       = 40 << 10         // bytes of groups' names, in one session
)

// provider is the client of the OpenID Connect provider. Discovery happens at the first use, so that serve starts
// without it.
type provider struct {
	o   ProviderOptions
	now func() time.Time

	mu      sync.Mutex // guards the fields below
	found   *discovered
	failed  error
	retryAt time.Time
}

// discovered is what the provider says of itself.
type discovered struct {
	*oidc.Provider
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
	metadata metadata
}

type metadata struct {
	Scopes        []string `json:"scopes_supported"`
	IssInResponse bool     `json:"authorization_response_iss_parameter_supported"`
	Device        string   `json:"device_authorization_endpoint"`
	Revocation    string   `json:"revocation_endpoint"`
	EndSession    string   `json:"end_session_endpoint"`
}

func newProvider(o ProviderOptions, now func() time.Time) *provider {
	if o.GroupsClaim == "" {
		o.GroupsClaim = "groups"
	}
	o.Client = boundClient(o.Client)
	return &provider{o: o, now: now}
}

// with returns a context in which the libraries use the provider's client.
func (p *provider) with(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.o.Client)
}

// discover returns what the provider says of itself. Several callers at once ask once.
func (p *provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if p.failed != nil && p.now().Before(p.retryAt) {
		return nil, p.failed
	}
	// A stranger who hangs up must not make it fail for everybody.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), providerTimeout)
	defer cancel()
	found, err := p.ask(ctx)
	if err != nil {
		p.failed, p.retryAt = unavailable(err), p.now().Add(discoveryRetry)
		return nil, p.failed
	}
	p.found, p.failed = found, nil
	return found, nil
}

func (p *provider) ask(ctx context.Context) (*discovered, error) {
	found, err := oidc.NewProvider(p.with(ctx), p.o.Issuer)
	if err != nil {
		return nil, fmt.Errorf("discover the identity provider: %w", err)
	}
	d := &discovered{Provider: found}
	if err := found.Claims(&d.metadata); err != nil {
		return nil, fmt.Errorf("discover the identity provider: %w", err)
	}
	endpoint := found.Endpoint()
	for _, at := range []string{endpoint.AuthURL, endpoint.TokenURL, found.UserInfoEndpoint(), d.metadata.Device,
		d.metadata.Revocation} {
		u, err := url.Parse(at)
		if err != nil || at != "" && u.Scheme != "https" && !identity.IsLocalHost(u.Hostname()) {
			return nil, fmt.Errorf("the identity provider names %.200q, which is not https://", at)
		}
	}
	scopes := p.o.Scopes
	if len(scopes) == 0 {
		for _, scope := range DefaultScopes() {
			if scope == oidc.ScopeOpenID || slices.Contains(d.metadata.Scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	d.oauth = oauth2.Config{ClientID: p.o.ClientID, ClientSecret: p.o.ClientSecret, Endpoint: endpoint, Scopes: scopes}
	d.verifier = found.Verifier(&oidc.Config{ClientID: p.o.ClientID, Now: p.leniently})
	return d, nil
}

// leniently returns the time by which a token's expiry is judged.
func (p *provider) leniently() time.Time { return p.now().Add(-clockLeeway) }

func unavailable(err error) error {
	return &Refusal{Unavailable: true, cause: err, Message: "The identity provider can't be reached: try again in a " +
		"moment; the log of sluice serve says more"}
}

// authoriseURL returns where a browser signs in.
func (p *provider) authoriseURL(ctx context.Context, f flow) (string, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier),
		oauth2.AccessTypeOffline} // Google's way to a refresh token; others ignore it
	if p.o.Prompt != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", p.o.Prompt))
	}
	config := d.oauth
	config.RedirectURL = f.Redirect
	return config.AuthCodeURL(f.State, options...), nil
}

// checkResponseIssuer checks the parameter iss of the provider's answer (RFC 9207), so that no other provider's answer
// is taken for this one's.
func (p *provider) checkResponseIssuer(ctx context.Context, iss string) error {
	d, err := p.discover(ctx)
	if err != nil {
		return err
	}
	if iss == "" && !d.metadata.IssInResponse || iss == p.o.Issuer {
		return nil
	}
	return &Refusal{Message: "The answer is not of this identity provider: sign in again at /auth/login",
		cause: fmt.Errorf("the answer's iss is %.200q", iss)}
}

// exchange returns who signed in, and the refresh token if there is one.
func (p *provider) exchange(ctx context.Context, f flow, code string) (access.Person, string, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return access.Person{}, "", err
	}
	config := d.oauth
	config.RedirectURL = f.Redirect
	ctx, cancel := context.WithTimeout(p.with(ctx), providerTimeout)
	defer cancel()
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return access.Person{}, "", explainTokenError(err)
	}
	who, err := p.identify(ctx, d, token, f.Nonce)
	return who, token.RefreshToken, err
}

// explainTokenError tells a provider that says no from one that does not answer.
func explainTokenError(err error) error {
	said := new(oauth2.RetrieveError)
	if errors.As(err, &said) && said.Response != nil && said.Response.StatusCode/100 == 4 {
		return &Refusal{Message: "The identity provider did not accept the sign-in: sign in again; if that does not " +
			"help, the log of sluice serve says what it answered", cause: redact(said)}
	}
	return unavailable(err)
}

// redact keeps what may be logged of a token endpoint's answer.
func redact(said *oauth2.RetrieveError) error {
	return fmt.Errorf("the token endpoint says %s: %s", clip(said.ErrorCode), clip(said.ErrorDescription))
}

// identify verifies the ID token that came with an access token. nonce is empty where none was sent.
func (p *provider) identify(ctx context.Context, d *discovered, token *oauth2.Token, nonce string,
) (who access.Person, err error) {
	ctx = p.with(ctx)
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return who, invalid(errors.New("there is no ID token"))
	}
	id, err := d.verifier.Verify(ctx, raw)
	if err != nil {
		return who, invalid(err)
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return who, invalid(err)
	}
	switch azp, has := claims["azp"]; {
	case id.Subject == "":
		return who, invalid(errors.New("sub is empty"))
	case nonce != "" && !equal(id.Nonce, nonce):
		return who, invalid(errors.New("nonce is another"))
	case has && azp != p.o.ClientID, !has && len(id.Audience) > 1:
		return who, invalid(fmt.Errorf("azp is %v, and aud is %q", azp, id.Audience))
	case id.IssuedAt.After(p.now().Add(clockLeeway)):
		return who, invalid(errors.New("iat is in the future: do the clocks differ?"))
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return who, invalid(err)
		}
	}
	return p.personOf(ctx, d, token, id, claims)
}

// personOf reads who an ID token is about. What it lacks is asked of the UserInfo endpoint.
func (p *provider) personOf(ctx context.Context, d *discovered, token *oauth2.Token, id *oidc.IDToken,
	claims map[string]any) (who access.Person, err error) {
	_, hasGroups := claims[p.o.GroupsClaim]
	_, hasEmail := claims["email"]
	if (!hasGroups || !hasEmail) && d.UserInfoEndpoint() != "" && token.AccessToken != "" {
		more, err := d.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			return who, unavailable(fmt.Errorf("ask the UserInfo endpoint: %w", err))
		}
		if more.Subject != id.Subject {
			return who, invalid(errors.New("the UserInfo endpoint answers for another subject"))
		}
		further := map[string]any{}
		if err := more.Claims(&further); err != nil {
			return who, invalid(err)
		}
		for name, value := range further {
			if _, known := claims[name]; !known { // what is signed comes first
				claims[name] = value
			}
		}
	}
	who = readPerson(p.o.Issuer, id.Subject, claims)
	who.GroupsLeftOut = leavesGroupsOut(claims, p.o.GroupsClaim)
	who.Groups, err = readGroups(claims[p.o.GroupsClaim])
	return who, err
}

// leavesGroupsOut reports whether the provider says that somebody has more groups than it sends. What it refers to
// instead (distributed claims) is not asked: the address is its choice.
func leavesGroupsOut(claims map[string]any, claim string) bool {
	names, _ := claims["_claim_names"].(map[string]any)
	_, elsewhere := names[claim]
	_, has := claims[claim]
	return !has && (elsewhere || claims["hasgroups"] == true)
}

func invalid(err error) error {
	return &Refusal{Message: "The identity provider's answer is not valid: sign in again; if that does not help, the log " +
		"of sluice serve says why", cause: err}
}

// readPerson returns who claims are about. An address that the provider did not verify is left out: anybody may say
// that it is theirs.
func readPerson(issuer, subject string, claims map[string]any) access.Person {
	text := func(name string) string {
		s, _ := claims[name].(string)
		return s
	}
	who := access.Person{Issuer: issuer, Subject: subject, Name: clip(text("name"))}
	if who.Name == "" {
		who.Name = clip(text("preferred_username"))
	}
	if verified := claims["email_verified"]; verified == true || verified == "true" {
		if email := text("email"); len(email) <= 320 && !strings.ContainsAny(email, " <>\n") {
			who.Email = strings.ToLower(email)
		}
	}
	return who
}

// readGroups reads the claim with the groups: a list of names, or one name.
func readGroups(claim any) (groups []string, err error) {
	size := 0
	add := func(name any) {
		if s, ok := name.(string); ok && s != "" {
			groups = append(groups, s)
			size += len(s) + 3
		}
	}
	switch claim := claim.(type) {
	case []any:
		for _, name := range claim {
			add(name)
		}
	default:
		add(claim)
	}
	if size > maxGroups {
		return nil, &Refusal{Denied: true, Message: fmt.Sprintf("The identity provider sent %d groups, which is more than "+
			"are kept: have it send only those that are assigned to this application (docs/signin.md)", len(groups))}
	}
	return sortedUnique(groups), nil
}

// errEnded means that the provider no longer knows a refresh token: the account left, or the grant was withdrawn.
var errEnded = errors.New("the identity provider no longer accepts the refresh token")

// renew asks the provider about somebody again, and returns who it is now and the next refresh token. It returns
// errEnded if the session is to end.
func (p *provider) renew(ctx context.Context, before access.Person, refresh string) (access.Person, string, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return before, "", err
	}
	ctx, cancel := context.WithTimeout(p.with(ctx), providerTimeout)
	defer cancel()
	token, err := d.oauth.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
	said := new(oauth2.RetrieveError)
	switch {
	case errors.As(err, &said) && said.ErrorCode == "invalid_grant":
		return before, "", errEnded
	case err != nil && said != nil && said.Response != nil:
		return before, "", redact(said)
	case err != nil:
		return before, "", err
	}
	who, err := p.identifyAgain(ctx, d, before, token)
	if err == nil && (who.Issuer != before.Issuer || who.Subject != before.Subject) {
		err = errEnded
	}
	return who, token.RefreshToken, err
}

// identifyAgain reads who a renewed token is about. Without an ID token, the UserInfo endpoint says it; what that does
// not say stays as it was.
func (p *provider) identifyAgain(ctx context.Context, d *discovered, before access.Person, token *oauth2.Token,
) (access.Person, error) {
	if raw, _ := token.Extra("id_token").(string); raw != "" {
		return p.identify(ctx, d, token, "")
	}
	if d.UserInfoEndpoint() == "" {
		return before, nil
	}
	info, err := d.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return before, err
	}
	claims := map[string]any{}
	if err := info.Claims(&claims); err != nil {
		return before, err
	}
	who := readPerson(before.Issuer, info.Subject, claims)
	if _, has := claims["email"]; !has {
		who.Email = before.Email
	}
	if claim, has := claims[p.o.GroupsClaim]; has {
		who.Groups, err = readGroups(claim)
	} else {
		who.Groups = before.Groups
	}
	return who, err
}

// revoke has the provider forget a refresh token (RFC 7009).
func (p *provider) revoke(ctx context.Context, refresh string) error {
	d, err := p.discover(ctx)
	if err != nil || d.metadata.Revocation == "" {
		return err
	}
	return p.post(ctx, d.metadata.Revocation,
		url.Values{"token": {refresh}, "token_type_hint": {"refresh_token"}}, nil)
}

// post sends a form as this client, by HTTP Basic as OAuth 2.0 prefers it and, if that is refused, in the form.
func (p *provider) post(ctx context.Context, at string, form url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	form.Set("client_id", p.o.ClientID)
	for _, basic := range []bool{true, false} {
		if !basic {
			form.Set("client_secret", p.o.ClientSecret)
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if basic && p.o.ClientSecret != "" {
			r.SetBasicAuth(url.QueryEscape(p.o.ClientID), url.QueryEscape(p.o.ClientSecret))
		}
		w, err := p.o.Client.Do(r)
		if err != nil {
			return unavailable(err)
		}
		body, err := io.ReadAll(w.Body)
		_ = w.Body.Close() // it was only read
		switch {
		case err != nil:
			return unavailable(err)
		case w.StatusCode == http.StatusUnauthorized && basic && p.o.ClientSecret != "":
			continue
		case w.StatusCode/100 != 2:
			return unavailable(fmt.Errorf("%s says %s: %s", at, w.Status, clip(string(body))))
		case into == nil:
			return nil
		}
		return json.Unmarshal(body, into)
	}
	return nil // the second time returns
}
