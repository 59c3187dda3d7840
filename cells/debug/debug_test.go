package debug_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/debugtest"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func newRequest() debug.Request {
	return debug.Request{Cell: "acme", Case: "4711", Reason: "Workspaces don't start", Person: "ada", Scope: debug.Read,
		For: 30 * time.Minute, Nonce: strings.Repeat("0f", 16), Made: noon, Expires: noon.Add(time.Hour)}
}

// D4: only the holder of the key that a request names can have signed it, and not a byte of it can be changed.
func TestD4RequestIsSigned(t *testing.T) {
	t.Parallel()
	ada := debugtest.NewSigner(t)
	signed, err := debug.Sign(newRequest(), ada)
	if err != nil {
		t.Fatal(err)
	}
	got, err := signed.Open()
	if err != nil || got.Reason != newRequest().Reason || got.Fingerprint() != ssh.FingerprintSHA256(ada.PublicKey()) {
		t.Fatalf("%+v (%v)", got, err)
	}
	for i := range signed.Document {
		forged := signed
		forged.Document = bytes.Clone(signed.Document)
		forged.Document[i] ^= 1
		if r, err := forged.Open(); err == nil {
			t.Errorf("byte %d was changed, and it was accepted: %+v", i, r)
		}
	}
	other, err := debug.Sign(newRequest(), debugtest.NewSigner(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (debug.SignedRequest{Document: signed.Document, Signature: other.Signature}).Open(); err == nil {
		t.Error("somebody else's signature was accepted")
	}
	var fields map[string]any
	if err := json.Unmarshal(signed.Document, &fields); err != nil {
		t.Fatal(err)
	}
	fields["also"] = "root"
	if signed.Document, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if _, err := signed.Open(); err == nil || !strings.Contains(err.Error(), "also") {
		t.Errorf("a field that the owner would not see was accepted: %v", err)
	}
}

func TestRequestRefusals(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*debug.Request){
		"no cell":           func(r *debug.Request) { r.Cell = "" },
		"no case":           func(r *debug.Request) { r.Case = " " },
		"two lines":         func(r *debug.Request) { r.Reason = "a\nb" },
		"escape sequence":   func(r *debug.Request) { r.Reason = "a\x1b[2J" },
		"right to left":     func(r *debug.Request) { r.Reason = "a\u202eb" },
		"too long a reason": func(r *debug.Request) { r.Reason = strings.Repeat("a", 501) },
		"too long":          func(r *debug.Request) { r.For = 9 * time.Hour },
		"too short":         func(r *debug.Request) { r.For = -time.Hour },
		"scope":             func(r *debug.Request) { r.Scope = "root" },
		"scope's command":   func(r *debug.Request) { r.Scope = "exec:a b" },
		"nonce":             func(r *debug.Request) { r.Nonce = "1" },
		"valid for ever":    func(r *debug.Request) { r.Expires = r.Made.Add(48 * time.Hour) },
		"person":            func(r *debug.Request) { r.Person = "../ada" },
	} {
		r := newRequest()
		change(&r)
		if _, err := debug.Sign(r, debugtest.NewSigner(t)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r := newRequest()
	for name, c := range map[string]struct {
		cell string
		now  time.Time
		want string
	}{
		"now":            {"acme", noon, ""},
		"clock behind":   {"acme", noon.Add(-4 * time.Minute), ""},
		"another cell":   {"initech", noon, "for the cell acme"},
		"expired":        {"acme", noon.Add(time.Hour), "expired"},
		"a day behind":   {"acme", noon.Add(-24 * time.Hour), "in the future"},
		"a day too late": {"acme", noon.Add(24 * time.Hour), "expired"},
	} {
		err := r.CheckFor(c.cell, c.now)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// D4: a relay can't put a host key of its own in the place of the cell's, nor one of another session.
func TestD4HostKeyIsVouchedFor(t *testing.T) {
	t.Parallel()
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	key := debugtest.NewSigner(t).PublicKey()
	vouched := debug.NewHostKey("acme", private, "00ff", key)
	if got, err := vouched.Open("acme", public, "00ff"); err != nil || !bytes.Equal(got.Marshal(), key.Marshal()) {
		t.Fatal(err)
	}
	replaced := vouched
	replaced.Key = debug.NewHostKey("acme", stranger, "00ff", debugtest.NewSigner(t).PublicKey()).Key
	for name, c := range map[string]struct {
		h             debug.HostKey
		cell, request string
	}{
		"another key":     {replaced, "acme", "00ff"},
		"another cell":    {vouched, "initech", "00ff"},
		"another session": {vouched, "acme", "00fe"},
		"a stranger's":    {debug.NewHostKey("acme", stranger, "00ff", key), "acme", "00ff"},
	} {
		if _, err := c.h.Open(c.cell, public, c.request); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// D2, D3: a permission has to be used soon, in the same boot, and ends by the monotonic clock.
func TestD2PermissionEnds(t *testing.T) {
	t.Parallel()
	p := debug.Permission{Made: debug.Moment{Boot: "a", Since: time.Hour}, For: 30 * time.Minute}
	at := func(boot string, since time.Duration) debug.Moment { return debug.Moment{Boot: boot, Since: since} }
	if err := p.CheckBegin(at("a", time.Hour+debug.BeginWithin)); err != nil {
		t.Error(err)
	}
	for _, late := range []debug.Moment{at("a", time.Hour+debug.BeginWithin+1), at("b", time.Hour)} {
		if p.CheckBegin(late) == nil {
			t.Errorf("a session may begin at %+v", late)
		}
	}
	p.Made.Boot = "a time:[1]"
	for boot, want := range map[string]string{"a time:[2]": "another time namespace", "b time:[1]": "started again"} {
		if err := p.CheckBegin(at(boot, time.Hour)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", boot, err)
		}
	}
	p.Made.Boot = "a"
	began := at("a", time.Hour)
	if left := p.Left(began, at("a", time.Hour+29*time.Minute)); left != time.Minute {
		t.Error(left)
	}
	for _, over := range []debug.Moment{at("a", 90*time.Minute), at("b", time.Hour)} {
		if p.Left(began, over) > 0 {
			t.Errorf("it goes on at %+v", over)
		}
	}
}

// The hash does not depend on how the record was written, and changes with each byte of it.
func TestChain(t *testing.T) {
	t.Parallel()
	record := bytes.Repeat([]byte("0123456789"), 1500)
	want, length, err := debug.HashRecord(bytes.NewReader(record))
	if err != nil || length != int64(len(record)) {
		t.Fatal(length, err)
	}
	for _, step := range []int{1, 7, 4096, 5000} {
		var c debug.Chain
		for rest := record; len(rest) > 0; {
			n := min(step, len(rest))
			_, _ = c.Write(rest[:n])
			rest = rest[n:]
		}
		if c.Hash() != want || c.Length() != length {
			t.Errorf("in steps of %d: %s of %d bytes", step, c.Hash(), c.Length())
		}
	}
	seen := map[string]bool{want: true}
	for _, at := range []int{0, 4095, 4096, len(record) - 1} {
		changed := bytes.Clone(record)
		changed[at] ^= 1
		hash, _, _ := debug.HashRecord(bytes.NewReader(changed))
		if seen[hash] {
			t.Errorf("byte %d does not count", at)
		}
		seen[hash] = true
	}
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	stranger, _, _ := ed25519.GenerateKey(rand.Reader)
	sealed, err := debug.NewSignedSeal(debug.Seal{Cell: "acme", Hash: want, Length: length}, private)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := sealed.Open(public); err != nil || s.Hash != want {
		t.Error(s, err)
	}
	if _, err := sealed.Open(stranger); err == nil {
		t.Error("a stranger's seal was accepted")
	}
}

func TestPods(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]debug.Pod{
		"shop/queue-0":       {Namespace: "shop", Name: "queue-0"},
		"shop/web.1/main":    {Namespace: "shop", Name: "web.1", Container: "main"},
		"queue-0":            {},
		"shop/queue-0/":      {},
		"shop/../etc":        {},
		"shop/a/b/c":         {},
		"shop/Queue":         {},
		"shop/queue-0?x=1":   {},
		"/queue-0":           {},
		"shop/queue-0\nmain": {},
	} {
		if got, err := debug.ParsePod(text); got != want || (err == nil) != (want.Name != "") {
			t.Errorf("%q: %+v (%v)", text, got, err)
		}
	}
}
