package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/test/child"
)

// A cell is installed with nothing but a token, by the path of any update, and needs no token again.
func TestJoinAndInstall(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	s := k.newSettings(t, k.newToken(t, "acme"))
	c := start(t, s)
	one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	k.assign(one)
	k.await(t, "healthy", healthyOn(one))
	c.stop()
	info, err := os.Stat(credentialsFile(s.State))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key can be read by others: %v", info.Mode())
	}
	if text := readFile(t, credentialsFile(s.State)); strings.Contains(text, tokenSecret(t, s.Join)) {
		t.Error("the token was kept")
	}
	for name, change := range map[string]func(*settings){
		"without a token":   func(s *settings) { s.Join = "" },
		"with the old one":  func(*settings) {},
		"without its name":  func(s *settings) { s.Join, s.Cell = "", "" },
		"with its address":  func(s *settings) { s.Join, s.Server = "", "https://"+k.address },
		"with both of them": func(s *settings) { s.Server = "https://" + k.address },
	} {
		again := s
		change(&again)
		since := k.reportCount()
		c := start(t, again)
		k.awaitAfter(t, since, "healthy "+name, healthyOn(one))
		c.stop()
	}
	if len(k.tokenKeys) != 1 {
		t.Errorf("a token was shown %d times", len(k.tokenKeys))
	}
	two := k.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	k.assign(two)
	start(t, s)
	k.await(t, "healthy on the next", healthyOn(two))
	if k.streamCount == 0 {
		t.Error("it never listened to a stream")
	}
}

func tokenSecret(t testing.TB, word string) string {
	t.Helper()
	token, err := identity.ParseToken(word)
	must(t, err)
	return token.Secret
}

// R28, fault 59: after a kill at any point of a registration, the same token completes it, with one key.
func TestRegistrationKilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"key made", "token sent", "registered"} {
		for _, gone := range []bool{false, true} { // whether the token is used up
			k := newKeyedControlPlane(t)
			q := newAgentProcess(t, k.controlPlane)
			q.Server, q.Join = "", k.newToken(t, "acme").String()
			q.start(point, 0)
			q.awaitDeath()
			k.updateKeys(func() { k.denyTokens = gone && point != "key made" })
			one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
			k.assign(one)
			q.start("", 0)
			k.await(t, "healthy after "+point, healthyOn(one))
			q.kill()
			k.mu.Lock()
			if shown := slices.Compact(slices.Clone(k.tokenKeys)); len(shown) != 1 || len(k.cells) != 1 {
				t.Errorf("%s: keys %v were shown, %v are known", point, k.tokenKeys, k.cells)
			}
			k.mu.Unlock()
		}
	}
}

// An invalid token ends an agent that runs nothing, and the error says what to do. An agent that runs something
// continues (R30), under the key that it has.
func TestTokenThatIsNotGood(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	good := k.newToken(t, "acme")
	bad := good
	bad.Secret = k.newToken(t, "acme").Secret[1:] + "x"
	s := k.newSettings(t, bad)
	o, err := s.options()
	must(t, err)
	a, err := New(o)
	must(t, err)
	if err := a.Run(t.Context()); !errors.Is(err, plane.ErrToken) ||
		!strings.Contains(err.Error(), "sluice cell add") || strings.Contains(err.Error(), bad.Secret) {
		t.Fatalf("it ends with %v", err)
	}
	s.Join = good.String()
	c := start(t, s)
	one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	k.assign(one)
	k.await(t, "healthy", healthyOn(one))
	c.stop()
	before := readCredentials(t, s.State).Key
	s.Join = bad.String()
	since := k.reportCount()
	c = start(t, s)
	k.awaitAfter(t, since, "healthy in spite of a bad token", healthyOn(one))
	c.stop()
	if !bytes.Equal(readCredentials(t, s.State).Key, before) {
		t.Error("it has another key")
	}
	// A valid new token makes a new key: the old one may have leaked.
	s.Join = k.newToken(t, "acme").String()
	since = k.reportCount()
	c = start(t, s)
	k.awaitAfter(t, since, "healthy under a new key", healthyOn(one))
	c.stop()
	if bytes.Equal(readCredentials(t, s.State).Key, before) {
		t.Error("a new token kept the old key")
	}
}

// credentials is what package plane stores of a cell's keys.
type credentials struct {
	Cell    string    `json:"cell"`
	Address string    `json:"address"`
	Pins    []string  `json:"pins"`
	Key     []byte    `json:"key"`
	Next    []byte    `json:"next"`
	Since   time.Time `json:"since"`
}

func credentialsFile(dir string) string { return filepath.Join(dir, "identity.json") }

func readCredentials(t testing.TB, dir string) (c credentials) {
	t.Helper()
	text, err := os.ReadFile(credentialsFile(dir))
	must(t, err)
	must(t, json.Unmarshal(text, &c))
	return c
}

// A token that contradicts the other options is refused before anything happens.
func TestTokenThatIsNotMeant(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	s := k.newSettings(t, k.newToken(t, "acme"))
	c := start(t, s)
	k.await(t, "pending", func(cells.Report) bool { return true })
	c.stop()
	unpinned := k.newToken(t, "acme")
	unpinned.Pins = []string{"sha256:1234"}
	for want, change := range map[string]func(*settings){
		"the token is for cell globex, and": func(s *settings) {
			s.Join, s.Cell = k.newToken(t, "globex").String(), ""
		},
		"the token is for cell globex, not": func(s *settings) { s.Join = k.newToken(t, "globex").String() },
		"belongs to cell acme, not":         func(s *settings) { s.Join, s.Cell = "", "globex" },
		"this is not a token":               func(s *settings) { s.Join = unpinned.String() },
		"omit the plain address":            func(s *settings) { s.Server = "http://127.0.0.1:1" },
		"pass the token":                    func(s *settings) { s.Join, s.State = "", t.TempDir() },
		"is invalid: use https":             func(s *settings) { s.Server = "https://acme:hush@127.0.0.1:1" },
	} {
		other := s
		change(&other)
		o, err := other.options()
		must(t, err)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "hush") {
			t.Errorf("want %q: %v", want, err)
		}
	}
	must(t, os.Chmod(credentialsFile(s.State), 0o644))
	o, err := s.options()
	must(t, err)
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "can be read by other users") {
		t.Errorf("a key that others can read: %v", err)
	}
	must(t, os.Chmod(credentialsFile(s.State), 0o600))
	for _, name := range []string{credentialsFile(s.State), filepath.Join(s.State, "identity.copy.json")} {
		must(t, os.WriteFile(name, []byte(`{"cell":"acme","key":"aHVzaA=="`), 0o600))
	}
	must(t, os.Remove(filepath.Join(s.State, "journal.json"))) // nothing runs that could keep running
	o.Join = nil
	a, err := New(o)
	must(t, err)
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "is damaged") ||
		strings.Contains(err.Error(), "aHVz") {
		t.Errorf("a damaged identity: %v", err)
	}
}

// R29: a control plane without a pinned key receives nothing, not even a token.
func TestAnotherControlPlaneIsToldNothing(t *testing.T) {
	t.Parallel()
	k, impostor := newKeyedControlPlane(t), newKeyedControlPlane(t)
	asked := make(chan string, 100)
	impostor.update(func() {
		impostor.refuse = func(_ http.ResponseWriter, r *http.Request) bool { asked <- r.URL.Path; return false }
	})
	token := k.newToken(t, "acme")
	token.Address = impostor.address
	s := k.newSettings(t, token)
	o, err := s.options()
	must(t, err)
	told := newLogWatcher("the peer's key is not among the pinned keys")
	o.Log = zerolog.New(told)
	a, err := New(o)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	<-told.seen
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(asked) > 0 {
		t.Errorf("it asked the impostor for %s", <-asked)
	}
}

// logWatcher waits for words in a log.
type logWatcher struct {
	want string
	seen chan struct{}
	once bool
	lock chan struct{}
}

func newLogWatcher(want string) *logWatcher {
	w := &logWatcher{want: want, seen: make(chan struct{}), lock: make(chan struct{}, 1)}
	return w
}

func (w *logWatcher) Write(line []byte) (int, error) {
	w.lock <- struct{}{}
	defer func() { <-w.lock }()
	if !w.once && strings.Contains(string(line), w.want) {
		w.once = true
		close(w.seen)
	}
	return len(line), nil
}

// R29: new pins count if the standby key signed them, are durable before they count, and let a standby key take over. A
// set without the key in use is refused.
func TestPinsChange(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	s := k.newSettings(t, k.newToken(t, "acme"))
	c := start(t, s)
	k.await(t, "pending", func(cells.Report) bool { return true })
	known := func() []string { return readCredentials(t, s.State).Pins }
	first := k.currentPins()
	third, fourth := newServerKey(t), newServerKey(t)
	pin := func(c tls.Certificate) string { return identity.CertificatePin(c.Leaf) }
	sign := func(by tls.Certificate, serial int64, pins ...string) cells.SignedPins {
		signed, err := identity.SignPins(by.PrivateKey.(crypto.Signer), pins, serial)
		must(t, err)
		return signed
	}
	active, standby := k.keys[0], k.keys[1]
	tampered := sign(standby, 1, first[0], pin(third))
	tampered.Pins = []string{first[0], pin(fourth)}
	tooMany := append(slices.Repeat(first[1:], maxPins), first[0])
	for name, c := range map[string]struct {
		pins   []string
		signed cells.SignedPins
	}{
		"unsigned, as older control planes send it": {[]string{first[0], pin(third)}, cells.SignedPins{}},
		"signed by the active key":                  {nil, sign(active, 1, first[0], pin(third))},
		"signed by the new key":                     {nil, sign(third, 1, first[0], pin(third))},
		"changed after it was signed":               {nil, tampered},
		"without the one in use":                    {nil, sign(standby, 1, first[1])},
		"no pins":                                   {nil, sign(standby, 1, "sha256:abc")},
		"too many":                                  {nil, sign(standby, 1, tooMany...)},
		"an old serial":                             {nil, sign(standby, 0, first[0], pin(third))},
	} {
		k.update(func() { k.pins, k.signedPins = c.pins, []cells.SignedPins{c.signed} })
		since := k.reportCount()
		k.awaitAfter(t, since, "a report", func(cells.Report) bool { return true })
		k.awaitAfter(t, since+1, "another", func(cells.Report) bool { return true })
		if !slices.Equal(known(), first) {
			t.Fatalf("%s: taken: %v", name, known())
		}
	}
	// The standby key takes over with a new standby, and that one after it: a cell that was away for both changes
	// follows.
	k.update(func() {
		k.signedPins = []cells.SignedPins{sign(standby, 1, pin(standby), pin(third)),
			sign(third, 2, pin(third), pin(fourth))}
	})
	old := k.keys[0]
	k.updateKeys(func() { k.keys = []tls.Certificate{standby, third} })
	k.server.CloseClientConnections()
	since := k.reportCount()
	k.awaitAfter(t, since, "a report to the standby", func(cells.Report) bool { return true })
	if !slices.Equal(known(), first) { // the newest set lacks the key in use
		t.Fatalf("taken: %v", known())
	}
	k.update(func() { k.signedPins = k.signedPins[:1] })
	k.awaitAfter(t, since, "the first change", func(cells.Report) bool {
		return slices.Equal(known(), []string{pin(standby), pin(third)})
	})
	k.update(func() {
		k.signedPins = append(k.signedPins[:1:1], sign(third, 2, pin(third), pin(fourth)))
	})
	k.updateKeys(func() { k.keys = []tls.Certificate{third, fourth} })
	k.server.CloseClientConnections()
	k.awaitAfter(t, since, "the second change", func(cells.Report) bool {
		return slices.Equal(known(), []string{pin(third), pin(fourth)})
	})
	// The first key is out: nobody can act as the control plane with it any more, even after a restart.
	k.updateKeys(func() { k.keys = []tls.Certificate{old, fourth} })
	k.server.CloseClientConnections()
	c.stop()
	since = k.reportCount()
	told := newLogWatcher("not among the pinned keys")
	c = start(t, s, func(o *Options) { o.Log = zerolog.New(told) })
	<-told.seen
	if k.reportCount() != since {
		t.Error("it reported to a key that was dropped")
	}
	k.updateKeys(func() { k.keys = []tls.Certificate{fourth, third} })
	k.awaitAfter(t, since, "back under the standby", func(cells.Report) bool { return true })
	c.stop()
}

// killAndWait kills a process and waits for its end.
func killAndWait(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// agentCommand returns the command of an agent process without proxies, with env added.
func agentCommand(t testing.TB, s settings, env ...string) *exec.Cmd {
	t.Helper()
	executable, err := child.Program()
	must(t, err)
	text, err := json.Marshal(s)
	must(t, err)
	cmd := exec.Command(executable, "agent", string(text))
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(e), "=")
		return strings.HasSuffix(name, "_PROXY")
	}), env...)
	return cmd
}
