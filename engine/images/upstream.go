package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/rs/zerolog"
)

const (
	stallTimeout = time.Minute // without a byte
	maxRedirects = 5
	maxSessions  = 1024
	acceptAll    = ociIndex + ", " + ociManifest + ", " + dockerList + ", " + dockerSchema
)

// UpstreamError says that a registry did not serve content.
type UpstreamError struct {
	Reference  Reference
	Status     int // of HTTP; 0: there was no answer
	RetryAfter time.Duration
	Problem    string
}

func (e *UpstreamError) Error() string { return e.Reference.Registry + ": " + e.Problem }

// temporary reports whether the same request may succeed soon.
func (e *UpstreamError) temporary() bool {
	return e.Status == 0 || e.Status == http.StatusTooManyRequests || e.Status >= 500 || e.Status == 401
}

// upstream fetches content from registries.
type upstream struct {
	registries *Registries
	keyring    *keyring
	base       *http.Transport

	mu       sync.Mutex
	sessions map[sessionKey]*session
}

type sessionKey struct{ registry, repository string }

// session is a signed-in client for one repository.
type session struct {
	client *http.Client
	until  time.Time // then it signs in anew
	of     *registries
}

func newUpstream(r *Registries, log zerolog.Logger) *upstream {
	base := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // documented
	base.DisableCompression = true                          // lengths and digests are of the plain bytes
	base.ResponseHeaderTimeout = stallTimeout
	base.MaxIdleConnsPerHost = 16
	return &upstream{registries: r, keyring: newKeyring(log), base: base, sessions: map[sessionKey]*session{}}
}

// fetch opens content from an offset on.
func (u *upstream) fetch(ctx context.Context, from Reference, d Descriptor, offset int64) (io.ReadCloser, error) {
	body, err := u.tryFetch(ctx, from, d, offset, true)
	var refused *UpstreamError
	if !errors.As(err, &refused) {
		return body, err
	}
	switch refused.Status {
	case http.StatusUnauthorized:
		u.forget(from) // what was signed in with has expired, or was replaced
		return u.tryFetch(ctx, from, d, offset, true)
	case http.StatusRequestedRangeNotSatisfiable: // some registries know few forms of ranges, or none
		return u.tryFetch(ctx, from, d, offset, false)
	}
	return nil, err
}

func (u *upstream) tryFetch(ctx context.Context, from Reference, d Descriptor, offset int64, ranged bool) (
	io.ReadCloser, error) {

	s, err := u.signIn(ctx, from)
	if err != nil {
		return nil, err
	}
	kind := "blobs"
	if d.isManifest() {
		kind = "manifests"
	}
	at := url.URL{Scheme: schemeOf(from.Registry), Host: endpointOf(from.Registry),
		Path: "/v2/" + from.Repository + "/" + kind + "/" + string(d.Digest)}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, &UpstreamError{Reference: from, Status: http.StatusBadRequest, Problem: "the name is no path"}
	}
	r.Header.Set("Accept-Encoding", "identity")
	if d.isManifest() {
		r.Header.Set("Accept", acceptAll)
	}
	if offset > 0 && ranged {
		to := ""
		if d.Size > 0 {
			to = strconv.FormatInt(d.Size-1, 10)
		}
		r.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-"+to)
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, u.describe(from, err)
	}
	body, err := checkAnswer(answer, from, d, offset)
	if err != nil {
		return nil, errors.Join(err, answer.Body.Close())
	}
	return body, nil
}

// checkAnswer returns the body from offset on, if the answer is what was asked for.
func checkAnswer(a *http.Response, from Reference, d Descriptor, offset int64) (io.ReadCloser, error) {
	failed := &UpstreamError{Reference: from, Status: a.StatusCode}
	switch a.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent:
		asked := "bytes " + strconv.FormatInt(offset, 10) + "-"
		if offset == 0 || !strings.HasPrefix(a.Header.Get("Content-Range"), asked) {
			failed.Problem, failed.Status = "it sends another range than it was asked for", http.StatusBadGateway
			return nil, failed
		}
	default:
		failed.RetryAfter = retryAfter(a.Header.Get("Retry-After"), time.Now())
		failed.Problem = fmt.Sprintf("%s for %s of %s", a.Status, d.Digest, from.Repository)
		return nil, failed
	}
	if encoding := a.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		failed.Problem, failed.Status = "it sends the content compressed, which was not asked for", http.StatusBadGateway
		return nil, failed
	}
	body := &stallingBody{ReadCloser: a.Body}
	body.timer = time.AfterFunc(stallTimeout, func() { _ = a.Body.Close() })
	skip := offset
	if a.StatusCode == http.StatusPartialContent {
		skip = 0
	}
	if length := a.ContentLength; length >= 0 && d.Size >= 0 && length != d.Size-offset+skip {
		return nil, errLength
	}
	if skip > 0 { // it ignores ranges
		if _, err := io.CopyN(io.Discard, body, skip); err != nil {
			return nil, &UpstreamError{Reference: from, Problem: "the connection broke"}
		}
	}
	return body, nil
}

// stallingBody ends a body from which nothing comes for long.
type stallingBody struct {
	io.ReadCloser
	timer *time.Timer
}

func (b *stallingBody) Read(to []byte) (int, error) {
	n, err := b.ReadCloser.Read(to)
	b.timer.Reset(stallTimeout)
	return n, err
}

func (b *stallingBody) Close() error {
	b.timer.Stop()
	return b.ReadCloser.Close()
}

// retryAfter reads a Retry-After header, in seconds or as a time; 0: there is none.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 24*60*60)) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, min(at.Sub(now), 24*time.Hour))
	}
	return 0
}

func schemeOf(registry string) string {
	if isLoopback(registry) {
		return "http"
	}
	return "https"
}

// forget forgets what a registry refused.
func (u *upstream) forget(from Reference) {
	u.keyring.refuse(from.Registry)
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sessions, sessionKey{from.Registry, from.Repository})
}

// signIn returns a client that is signed in at a registry, for one repository.
func (u *upstream) signIn(ctx context.Context, from Reference) (*session, error) {
	listed, err := u.registries.get()
	if err != nil {
		return nil, &UpstreamError{Reference: from, Problem: err.Error()}
	}
	if !listed.lists(from.Registry) {
		return nil, &UpstreamError{Reference: from, Status: http.StatusForbidden,
			Problem: "the control plane's list of registries does not have it"}
	}
	key := sessionKey{from.Registry, from.Repository}
	u.mu.Lock()
	s := u.sessions[key]
	u.mu.Unlock()
	if s != nil && s.of == listed && time.Now().Before(s.until) {
		return s, nil
	}
	credentials, used, err := u.keyring.get(ctx, listed, from.Registry)
	if err != nil {
		return nil, &UpstreamError{Reference: from, Problem: err.Error()}
	}
	options := []name.Option{name.StrictValidation}
	if isLoopback(from.Registry) {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(endpointOf(from.Registry), options...)
	if err != nil {
		return nil, &UpstreamError{Reference: from, Status: http.StatusBadRequest,
			Problem: "it is not the name of a registry"}
	}
	policy := &policyTransport{registry: from.Registry, listed: listed, next: u.base}
	signedIn, err := transport.NewWithContext(ctx, registry, credentials, policy,
		[]string{"repository:" + from.Repository + ":pull"})
	if err != nil {
		return nil, u.describe(from, err)
	}
	s = &session{until: time.Now().Add(used), of: listed,
		client: &http.Client{Transport: signedIn, CheckRedirect: checkRedirect}}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.sessions) >= maxSessions {
		clear(u.sessions)
	}
	u.sessions[key] = s
	return s, nil
}

// describe makes an UpstreamError of a failed request, without addresses that a redirect led to: they have signatures.
func (u *upstream) describe(from Reference, err error) error {
	var refused *hostError
	var answer *transport.Error
	failed := &UpstreamError{Reference: from, Problem: "it can't be reached"}
	var timeout net.Error
	switch {
	case errors.As(err, &refused):
		failed.Status, failed.Problem = http.StatusForbidden, refused.Error()
	case errors.As(err, &answer):
		failed.Status, failed.Problem = answer.StatusCode, fmt.Sprintf("%d while signing in", answer.StatusCode)
	case errors.Is(err, errRedirects):
		failed.Status, failed.Problem = http.StatusBadGateway, errRedirects.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		failed.Problem = "it does not answer"
	}
	return failed
}

var errRedirects = errors.New("it redirects too often")

// checkRedirect bounds redirects. policyTransport judges where they lead, and net/http drops credentials on the way to
// another host.
func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errRedirects
	}
	return nil
}

// hostError says that a registry led to a host that is not listed for it.
type hostError struct{ host string }

func (e *hostError) Error() string {
	return fmt.Sprintf("it leads to %.100q, which the list of registries does not have among its hosts", e.host)
}

// policyTransport connects only to a registry and to the hosts that are listed for it, over TLS unless they are on this
// machine.
type policyTransport struct {
	registry string
	listed   *registries
	next     http.RoundTripper
}

func (p *policyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !p.listed.allows(p.registry, r.URL.Host) || r.URL.Scheme != "https" && !isLoopback(r.URL.Host) {
		return nil, &hostError{r.URL.Host}
	}
	return p.next.RoundTrip(r)
}
