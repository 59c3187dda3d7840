package images

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/images/ecr/ecrtest"
	"github.com/sluice-cd/sluice/releases"
)

// asked is a source of credentials that counts.
type asked struct {
	n    int
	life time.Duration
	err  error
}

func (a *asked) ask(ctx context.Context, _ *registries, _ string) (*authn.AuthConfig, time.Duration, error) {
	if err := ctx.Err(); err != nil { // of a client that has gone
		return nil, 0, err
	}
	a.n++
	return &authn.AuthConfig{Username: "AWS", Password: fmt.Sprint(a.n)}, a.life, a.err
}

// Credentials are replaced after half of their life. If nothing else is to be had then, they are used to their end, and
// asked for every few seconds.
func TestCredentialsAreRenewedAtHalfLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &asked{life: 12 * time.Hour}
		k := &keyring{ask: source.ask, kept: map[string]*credential{}}
		listed := &registries{}
		want := func(password string, requests int) {
			t.Helper()
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			a, used, err := k.get(gone, listed, "registry.example")
			got := ""
			if err == nil {
				c, _ := a.Authorization()
				got = c.Password
			}
			if got != password || source.n != requests || err == nil && used < shortestUse {
				t.Errorf("%q for %s after %d requests, %v; want %q after %d", got, used, source.n, err, password, requests)
			}
		}
		want("1", 1)
		time.Sleep(6*time.Hour - time.Second)
		want("1", 1)
		time.Sleep(time.Second)
		want("2", 2)
		source.err = errors.New("AWS is away")
		time.Sleep(6 * time.Hour)
		want("2", 3)
		want("2", 3) // not again at once
		time.Sleep(refusedPause)
		want("2", 4)
		time.Sleep(6 * time.Hour)
		want("", 5)
		source.err = nil
		want("", 5)
		time.Sleep(refusedPause)
		want("6", 6)
		k.refuse("registry.example")
		want("6", 6) // what is this new is not asked for again
		time.Sleep(refusedPause)
		want("7", 7)
		want("7", 7)
		listed = &registries{} // the file changed
		want("8", 8)
	})
}

// Whoever has many registries' clients ask at once has each credential asked for once.
func TestCredentialsAreAskedForOnce(t *testing.T) {
	t.Parallel()
	source := &asked{life: time.Hour}
	k := &keyring{ask: source.ask, kept: map[string]*credential{}}
	listed := &registries{}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, _, err := k.get(t.Context(), listed, "registry.example"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if source.n != 1 {
		t.Errorf("they were asked for %d times", source.n)
	}
}

// A credential helper gets what the file says and none of the control plane's secrets. What it does wrong ends soon,
// and is told to the log alone.
func TestCredentialHelper(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("SLUICE_DATABASE", "postgres://ada:hunter2@db")
	t.Setenv("AWS_REGION", "eu-central-1")
	for name, c := range map[string]struct{ script, user, password, token, fails string }{
		"right":      {script: `read s; echo "{\"Username\":\"ada\",\"Secret\":\"$s,$SLUICE_DATABASE,$AWS_REGION,$1\"}"`, user: "ada", password: "https://a.example,,eu-central-1,get"},
		"a token":    {script: `echo '{"Username":"<token>","Secret":"s"}'`, token: "s"},
		"none":       {script: `echo credentials not found in native keychain; exit 1`},
		"fails":      {script: `echo hunter3 >&2; exit 1`, fails: "docker-credential-x failed: the control plane's log says why"},
		"no JSON":    {script: `echo hunter3`, fails: "failed"},
		"no end":     {script: `yes hunter3`, fails: "failed"},
		"not there":  {fails: "failed"},
		"reads none": {script: `exec <&-; echo '{"Username":"ada","Secret":"s"}'`, user: "ada", password: "s"},
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(dir, "docker-credential-x")
			if err := os.Remove(program); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if c.script != "" {
				if err := os.WriteFile(program, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil { //nolint:gosec // run
					t.Fatal(err)
				}
			}
			var log strings.Builder
			s := &sources{zerolog.New(&log)}
			file := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(file, []byte(`{"credHelpers": {"https://a.example": "x"}}`), 0o600); err != nil {
				t.Fatal(err)
			}
			listed, err := readRegistries(file)
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := s.ask(t.Context(), listed, "a.example")
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "hunter") {
					t.Errorf("%v, want %q", err, c.fails)
				}
				if !strings.Contains(log.String(), "docker-credential-x") {
					t.Errorf("the log has %s", log.String())
				}
				return
			}
			if err != nil || got.Username != c.user || got.Password != c.password || got.IdentityToken != c.token {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// A helper that does not end is ended.
func TestCredentialHelperHangs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	begun := filepath.Join(dir, "begun")
	script := "#!/bin/sh\nmkfifo " + begun + ".wait\necho >" + begun + "\nread x <" + begun + ".wait\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-x"), []byte(script), 0o700); err != nil { //nolint:gosec // run
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := (&sources{zerolog.Nop()}).askHelper(ctx, "x", "a.example")
		ended <- err
	}()
	for _, err := os.Stat(begun); err != nil; _, err = os.Stat(begun) {
		if t.Context().Err() != nil {
			t.Fatal("it did not begin")
		}
	}
	cancel() // as its time does
	if err := <-ended; err == nil {
		t.Error("a helper that was ended had credentials")
	}
}

// A private registry of ECR with an empty entry is signed in at by a token of AWS's, which is replaced once the
// registry refuses it; and it may lead to ECR's own bucket, which gets no token.
func TestSignInAtECR(t *testing.T) {
	made := new(ecrtest.ECR)
	account := httptest.NewServer(made)
	defer account.Close()
	for name, value := range map[string]string{"AWS_ENDPOINT_URL": account.URL, "AWS_ACCESS_KEY_ID": ecrtest.Key,
		"AWS_SECRET_ACCESS_KEY": ecrtest.Secret, "AWS_SESSION_TOKEN": "", "AWS_CONFIG_FILE": os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "", "AWS_CA_BUNDLE": "", "HTTP_PROXY": ""} {
		t.Setenv(name, value)
	}
	const blob = "a layer"
	digest := releases.DigestBytes([]byte(blob))
	bucket := "prod-" + ecrtest.Region + "-starport-layer-bucket.s3." + ecrtest.Region + ".amazonaws.com"
	revoked := ""
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case r.Host == bucket:
			if r.Header.Get("Authorization") != "" {
				t.Error("the bucket gets the token")
			}
			_, _ = w.Write([]byte(blob))
		case r.Host != ecrtest.Host:
			t.Errorf("%s was asked", r.Host)
		case !made.Admits(user, password) || password == revoked:
			w.Header().Set("WWW-Authenticate", `Basic realm="https://`+ecrtest.Host+`/",service="ecr.amazonaws.com"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path != "/v2/":
			http.Redirect(w, r, "https://"+bucket+"/layer?signature=s", http.StatusTemporaryRedirect)
		}
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"auths": {%q: {}}}`, ecrtest.Host), 0o600); err != nil {
		t.Fatal(err)
	}
	listed, err := OpenRegistries(file)
	if err != nil {
		t.Fatal(err)
	}
	u := newUpstream(listed, zerolog.Nop())
	tlsConfig := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone() //nolint:forcetypeassert // documented
	tlsConfig.ServerName = "example.com"                                             // of httptest's certificate
	u.base.TLSClientConfig, u.base.Proxy = tlsConfig, nil
	u.base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	defer u.base.CloseIdleConnections()
	pull := func(repository string) error {
		t.Helper()
		from := Reference{Registry: ecrtest.Host, Repository: repository, Digest: digest}
		body, err := u.fetch(t.Context(), from, Descriptor{Digest: digest, Size: int64(len(blob))}, 0)
		if err != nil {
			return err
		}
		return body.Close()
	}
	for _, repository := range []string{"team/app", "team/other", "team/app"} {
		if err := pull(repository); err != nil {
			t.Fatal(err)
		}
	}
	if n := made.Given(); n != 1 {
		t.Errorf("%d tokens for two repositories", n)
	}
	revoked = "token-1"
	u.keyring.kept[ecrtest.Host].notAsk = time.Time{} // it is older than a few seconds
	if err := pull("team/app"); err != nil {
		t.Error(err)
	}
	if n := made.Given(); n != 2 {
		t.Errorf("%d tokens after the first was revoked", n)
	}
	made.Refuse("AccessDeniedException")
	revoked = "token-2"
	u.keyring.kept[ecrtest.Host].notAsk = time.Time{}
	if err := pull("team/app"); err == nil || strings.Contains(err.Error(), "token-") {
		t.Errorf("no new token is to be had: %v", err)
	}
}
