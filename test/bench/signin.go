package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/test/figures"
)

const (
	manySessions    = 10_000
	sessionRounds   = 30
	requestsARound  = 500
	groupsOfSession = 20
)

// measureSignIn measures what being signed in costs: each request, beside one with a token, and sessions in memory.
func measureSignIn(ctx context.Context, dir string) ([]figures.Row, error) {
	held, err := heapOfSessions(ctx, filepath.Join(dir, "sessions.db"))
	if err != nil {
		return nil, err
	}
	session, token, err := timeSignedIn(ctx, filepath.Join(dir, "signed-in"))
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.TimeRow("a request of who is signed in", session, "with a token", token, 1.1),
		{What: fmt.Sprintf("%d sessions in memory", manySessions), Got: fmt.Sprintf("%.1f MB", held/1e6),
			Base: "limit 20 MB", Ratio: held / 20e6, Limit: 1},
	}, nil
}

// storeSession stores a session as a sign-in does, and returns its secret.
func storeSession(ctx context.Context, kept records.Store, name string) (string, error) {
	secret := access.SessionPrefix + fmt.Sprintf("%043s", name)
	hash, now := identity.HashSecret(secret), time.Now()
	who := access.Person{Issuer: "https://idp.example", Subject: name, Email: name + "@example.com", Name: "Ada " + name}
	for i := range groupsOfSession {
		who.Groups = append(who.Groups, fmt.Sprintf("department-%02d-of-the-company", i))
	}
	body, err := json.Marshal(map[string]any{"id": hash[:16], "kind": "browser", "who": who, "from": "192.0.2.1:50000",
		"created": now, "seen": now, "checked": now, "ends": now.Add(24 * time.Hour)})
	if err == nil {
		_, err = kept.Put(ctx, records.Record{Kind: signin.SessionsKind, Key: hash, Body: body})
	}
	return secret, err
}

// heapOfSessions returns the bytes that many sessions take, with what they may do.
func heapOfSessions(ctx context.Context, file string) (float64, error) {
	kept, err := store.Open(ctx, file, zerolog.Nop())
	if err != nil {
		return 0, err
	}
	defer kept.Close() //nolint:errcheck // thrown away
	hashes := make([]string, manySessions)
	var g errgroup.Group
	g.SetLimit(64)
	for i := range hashes {
		g.Go(func() error {
			secret, err := storeSession(ctx, kept.Records(), fmt.Sprint("p", i))
			hashes[i] = identity.HashSecret(secret)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	rules := &channels.Access{Groups: map[string][]string{"department-07-of-the-company": {"operator"}}}
	before := heapInUse()
	s := signin.New(signin.Options{Records: kept.Records(), Recorder: kept, Workloads: http.DefaultClient,
		Access: func() (*channels.Access, bool) { return rules, true }, Log: zerolog.Nop()})
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { _ = s.Run(running) }()
	for _, hash := range hashes {
		for {
			_, grants, _, err := s.Session(hash, true)
			if err == nil && grants.Any() {
				break
			}
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			time.Sleep(time.Millisecond) // they are being read
		}
	}
	held := heapInUse() - before
	runtime.KeepAlive(s)
	return held, nil
}

func heapInUse() float64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// timeSignedIn returns the median times of a request with a session and with a token, at the built binary, in turn.
func timeSignedIn(ctx context.Context, dir string) (session, token time.Duration, err error) {
	sluice, repo, data := filepath.Join(dir, "sluice"), filepath.Join(dir, "releases.git"), filepath.Join(dir, "data")
	socket := filepath.Join(dir, "s")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, 0, err
	}
	for _, args := range [][]string{{"go", "build", "-o", sluice, "./cmd/sluice"}, {sluice, "init", "--bare", repo},
		{"git", "clone", "-q", repo, repo + ".clone"},
		{"sh", "-c", "cd " + repo + ".clone && echo 'access: {groups: {department-07-of-the-company: [viewer]}}' " +
			">>sluice.yaml && git -c user.name=a -c user.email=a@example.com commit -qam access && git push -q"},
		{sluice, "tick", "--repo", repo, "--data", data}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return 0, 0, fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	kept, err := store.Open(ctx, filepath.Join(data, "sluice.db"), zerolog.Nop())
	if err != nil {
		return 0, 0, err
	}
	secrets := map[bool]string{false: fmt.Sprintf("sluice_%043d", 1)}
	err = kept.AddToken(ctx, access.Token{Name: "bench", Roles: access.Roles{access.Viewer},
		Hash: identity.HashSecret(secrets[false]), Created: time.Now()})
	if err == nil {
		secrets[true], err = storeSession(ctx, kept.Records(), "ada")
	}
	if err != nil {
		return 0, 0, err
	}
	if err := kept.Close(); err != nil {
		return 0, 0, err
	}
	serve := exec.CommandContext(ctx, sluice, "serve", "--repo", repo, "--data", data, "--listen", "unix://"+socket,
		"--listen", "https://127.0.0.1:0", "--oidc-issuer", "https://idp.example", "--oidc-client-id", "sluice",
		"--log", "error")
	if err := serve.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
	}()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
	for begun := time.Now(); askAs(ctx, client, secrets[true]) != nil; time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			return 0, 0, fmt.Errorf("serve does not know the session: %w", askAs(ctx, client, secrets[true]))
		}
	}
	times := map[bool][]time.Duration{}
	for round := range 2 * sessionRounds {
		signedIn := round%2 == 0
		begin := time.Now()
		for range requestsARound {
			if err := askAs(ctx, client, secrets[signedIn]); err != nil {
				return 0, 0, err
			}
		}
		times[signedIn] = append(times[signedIn], time.Since(begin)/requestsARound)
	}
	return figures.Median(times[true]), figures.Median(times[false]), nil
}

func askAs(ctx context.Context, client *http.Client, secret string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/me", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	w, err := client.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	if _, err := io.Copy(io.Discard, w.Body); err != nil {
		return err
	}
	if w.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /v1/me: %s", w.Status)
	}
	return nil
}
