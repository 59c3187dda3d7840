package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
)

const (
	maxToken        = 12 << 10 // bytes of a workload's token
	maxKnownTokens  = 1000     // verified tokens that are remembered
	issuerRetry     = 10 * time.Second
	rememberedFor   = 5 * time.Minute // a verified token; an issuer has no way to revoke one
	maxFutureIssued = time.Minute
)

// workloads recognises the tokens of the issuers that sluice.yaml names.
type workloads struct {
	client *http.Client
	now    func() time.Time
	log    zerolog.Logger

	mu      sync.Mutex // guards the fields below
	issuers map[string]*issuer
	known   map[string]verified // by the token's hash
}

// issuer verifies one issuer's tokens.
type issuer struct {
	mu       sync.Mutex // guards the fields below
	verifier *oidc.IDTokenVerifier
	retryAt  time.Time
}

// verified is what a token says whose signature was checked.
type verified struct {
	issuer, subject string
	audiences       []string
	claims          map[string]any
	expires, until  time.Time // until when it is remembered
}

func newWorkloads(o Options) *workloads {
	w := &workloads{client: o.Workloads, now: o.Now, log: o.Log, issuers: map[string]*issuer{},
		known: map[string]verified{}}
	return w
}

// identify returns who shows a token, by the rules of sluice.yaml. Who has no role is unknown: everybody may have a
// token of a public CI.
func (w *workloads) identify(ctx context.Context, rules *channels.Access, token string,
) (who access.Person, g access.Grants, until time.Time, err error) {
	if len(token) > maxToken {
		return who, g, until, access.ErrUnknown
	}
	name := unverifiedIssuer(token)
	if name == "" || !slices.Contains(access.Issuers(rules), name) { // also where it was listed before
		return who, g, until, access.ErrUnknown
	}
	found, err := w.verify(ctx, name, token)
	if err != nil {
		w.log.Info().Err(err).Str("issuer", name).Msg("a workload's token is not valid")
		return who, g, until, access.ErrUnknown
	}
	g = access.GrantsOfWorkload(rules, found.issuer, found.audiences, found.claims)
	if !g.Any() {
		w.log.Info().Str("issuer", name).Str("subject", clip(found.subject)).Strs("audience", found.audiences).
			Msg("a workload's token matches nothing in access.workloads of sluice.yaml")
		return who, g, until, access.ErrUnknown
	}
	return access.Person{Issuer: found.issuer, Subject: clip(found.subject)}, g, found.expires, nil
}

// unverifiedIssuer returns the issuer that a token claims to be of; empty: it is no token.
func unverifiedIssuer(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	data, err := base64.RawURLEncoding.DecodeString(payload)
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err != nil || json.Unmarshal(data, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

func (w *workloads) verify(ctx context.Context, name, token string) (verified, error) {
	hash, now := hashOf(token), w.now()
	w.mu.Lock()
	known, ok := w.known[hash]
	w.mu.Unlock()
	if ok && now.Before(known.until) && now.Before(known.expires) {
		return known, nil
	}
	verifier, err := w.verifierOf(ctx, name)
	if err != nil {
		return verified{}, err
	}
	id, err := verifier.Verify(ctx, token)
	if err != nil {
		return verified{}, err
	}
	v := verified{issuer: id.Issuer, subject: id.Subject, audiences: id.Audience, claims: map[string]any{},
		expires: id.Expiry.Add(clockLeeway), until: now.Add(rememberedFor)}
	switch err := id.Claims(&v.claims); {
	case err != nil:
		return verified{}, err
	case id.Subject == "":
		return verified{}, errors.New("sub is empty")
	case id.IssuedAt.After(now.Add(maxFutureIssued)):
		return verified{}, errors.New("iat is in the future")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.known) >= maxKnownTokens {
		clear(w.known)
	}
	w.known[hash] = v
	return v, nil
}

// verifierOf returns the verifier of an issuer, which is discovered at its first token.
func (w *workloads) verifierOf(ctx context.Context, name string) (*oidc.IDTokenVerifier, error) {
	w.mu.Lock()
	i := w.issuers[name]
	if i == nil {
		i = &issuer{}
		w.issuers[name] = i
	}
	w.mu.Unlock()
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.verifier != nil:
		return i.verifier, nil
	case w.now().Before(i.retryAt):
		return nil, errors.New("the issuer could not be reached a moment ago")
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), boundClient(w.client)),
		providerTimeout)
	defer cancel()
	found, err := oidc.NewProvider(ctx, name)
	if err != nil {
		i.retryAt = w.now().Add(issuerRetry)
		return nil, err
	}
	// The audience is one of the rules' (access.GrantsOfWorkload).
	i.verifier = found.Verifier(&oidc.Config{SkipClientIDCheck: true,
		Now: func() time.Time { return w.now().Add(-clockLeeway) }})
	return i.verifier, nil
}
