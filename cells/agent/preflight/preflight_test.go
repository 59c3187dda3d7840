package preflight

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cells/infrastructure"
)

// serve starts a server with a key of its own, and returns where it is and the key's pin.
func serve(t *testing.T, h http.HandlerFunc) (address, pin string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := identity.SelfSignedCertificate(rand.Reader, key, "plane", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pin, err = identity.KeyPin(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), pin
}

func clientOf(t *testing.T, address, pin string) *plane.Client {
	t.Helper()
	dir := t.TempDir()
	token := &identity.Token{Cell: "acme", Address: address, Pins: []string{pin}, Secret: "s"}
	credentials, err := plane.LoadCredentials(dir, "acme", token)
	if err != nil {
		t.Fatal(err)
	}
	c, err := plane.New(plane.Options{Cell: "acme", Token: token, Credentials: credentials,
		Clock: clock.New(dir, clock.Machine{})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// want checks that one finding begins so, and has a remedy if it is a fault.
func want(t *testing.T, all []Finding, begins string) {
	t.Helper()
	for _, f := range all {
		if strings.HasPrefix(f.String(), begins) {
			if f.Fault != "" && f.Remedy == "" {
				t.Errorf("%s: without a remedy", f)
			}
			return
		}
	}
	t.Errorf("nothing begins with %q: %v", begins, all)
}

// Every way in which a control plane can't be reached is named, over real connections, with its remedy.
func TestControlPlane(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "")
	asked := make(chan *http.Request, 10)
	address, pin := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.WriteHeader(http.StatusNotFound)
	})
	look := func(address, pin string) []Finding {
		return Look(t.Context(), Options{ControlPlane: clientOf(t, address, pin), Folders: []string{t.TempDir()}})
	}
	all := look(address, pin)
	want(t, all, "control plane: "+address+" answers")
	want(t, all, "time: within")
	want(t, all, "disk: ")
	if r := <-asked; r.Method != http.MethodGet || r.ContentLength > 0 || r.Header.Get("Authorization") != "" {
		t.Errorf("the control plane was sent %s with %d bytes", r.Method, r.ContentLength)
	}
	want(t, look(address, "sha256:"+strings.Repeat("0", 64)), "pin: what answers at "+address+" has another key")

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	want(t, look(closed.Addr().String(), pin), "reach: "+closed.Addr().String()+" refuses")
	want(t, look("nowhere.invalid:7601", pin), "dns: ")

	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	want(t, look(plain.Listener.Addr().String(), pin), "pin: what answers at "+plain.Listener.Addr().String()+
		" does not speak TLS")

	late, pinOfLate := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	})
	all = look(late, pinOfLate)
	want(t, all, "time: this machine's clock is 1h0m")
	if f := Faults(all); len(f) != 1 || !f[0].Note {
		t.Errorf("a wrong clock: %v", f)
	}
}

func TestJudge(t *testing.T) {
	for want, err := range map[string]error{
		"reach: x:1 does not answer in time": context.DeadlineExceeded,
		"dns: no name server answers for a":  &net.DNSError{Name: "a", IsTimeout: true},
		"reach: x:1 can't be reached: other": errors.New("other"),
	} {
		if f := judgeProbe(err, "x:1"); !strings.HasPrefix(f.String(), want) || f.Remedy == "" {
			t.Errorf("%v: %s", err, f)
		}
	}
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	want(t, []Finding{checkFolder(filepath.Join(dir, "not", "there"))}, "disk: "+dir)
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("the look left %v", entries)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, []Finding{checkFolder(filepath.Join(file, "below"))}, "disk: "+file+" is no folder")
	want(t, []Finding{checkFolder("/proc/1")}, "disk: this user can't write to /proc/1")
}

type reader struct{ err error }

func (r reader) Source() cells.InfrastructureSource { return cells.SourceFile }

func (r reader) Read(context.Context) (infrastructure.State, error) {
	return infrastructure.State{Number: 7, Status: cells.InfrastructureApplied}, r.err
}

func TestInfrastructure(t *testing.T) {
	want(t, checkInfrastructure(t.Context(), reader{}), "infrastructure: 7, applied")
	all := checkInfrastructure(t.Context(), reader{errors.New("denied")})
	want(t, all, "infrastructure: denied: ")
	if !all[0].Note {
		t.Error("a cell whose infrastructure can't be read works nevertheless")
	}
}
