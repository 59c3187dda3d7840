package passkey

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// independent is testdata/assertions.json, which generate.mjs made: assertions with the verdicts of another
// implementation.
type independent struct {
	Statement struct{ Channel, Version, Digest, Nonce string }
	Table     []struct {
		Name      string
		Key       Key
		Assertion Assertion
		Verified  bool
	}
}

func readTable(t *testing.T) (table independent, statement Statement) {
	t.Helper()
	data, err := os.ReadFile("testdata/assertions.json")
	if err == nil {
		err = json.Unmarshal(data, &table)
	}
	if err != nil || len(table.Table) < 40 {
		t.Fatalf("%d assertions (%v)", len(table.Table), err)
	}
	return table, Statement(table.Statement)
}

// Every verdict is that of an independent implementation.
func TestVerdictsOfAnotherImplementation(t *testing.T) {
	t.Parallel()
	table, statement := readTable(t)
	good := 0
	for _, c := range table.Table {
		if err := c.Key.Validate(); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		s := statement
		v, err := c.Key.Verify(c.Assertion, s)
		if c.Verified != (err == nil) {
			t.Errorf("%s: %v, and the other says %t", c.Name, err, c.Verified)
		}
		if c.Verified {
			good++
			if v.Credential != c.Key.ID || v.Signed == "" {
				t.Errorf("%s: %+v", c.Name, v)
			}
		}
	}
	if good < 10 {
		t.Errorf("%d good ones", good)
	}
}

// What the other implementation leaves to its caller.
func TestAssertionsAreOfTheirKey(t *testing.T) {
	t.Parallel()
	table, statement := readTable(t)
	first, last := table.Table[0], table.Table[len(table.Table)-1]
	for name, change := range map[string]func(k *Key, a *Assertion, s *Statement){
		"another id":           func(_ *Key, a *Assertion, _ *Statement) { a.ID = last.Key.ID },
		"no id":                func(_ *Key, a *Assertion, _ *Statement) { a.ID = "" },
		"another key":          func(k *Key, _ *Assertion, _ *Statement) { k.PublicKey = last.Key.PublicKey },
		"another origin":       func(k *Key, _ *Assertion, _ *Statement) { k.Origin = "https://sluice.example" },
		"no nonce":             func(_ *Key, a *Assertion, s *Statement) { a.Nonce, s.Nonce = "", "" },
		"a nonce of two lines": func(_ *Key, a *Assertion, s *Statement) { a.Nonce += "\nx"; s.Nonce = a.Nonce },
		"a long part":          func(_ *Key, a *Assertion, _ *Statement) { a.ClientData += strings.Repeat("A", maxPart) },
		"no signature":         func(_ *Key, a *Assertion, _ *Statement) { a.Signature = "" },
		"a signature of text":  func(_ *Key, a *Assertion, _ *Statement) { a.Signature = "?" },
	} {
		k, a, s := first.Key, first.Assertion, statement
		change(&k, &a, &s)
		if _, err := k.Verify(a, s); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func TestKeysAreChecked(t *testing.T) {
	t.Parallel()
	table, _ := readTable(t)
	good := table.Table[0].Key
	const p384 = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3NhfeSpYmLG9dnpi/" +
		"kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f"
	for name, change := range map[string]func(k *Key){
		"no id":       func(k *Key) { k.ID = "" },
		"no base64":   func(k *Key) { k.ID = "a b" },
		"no key":      func(k *Key) { k.PublicKey = "AAAA" },
		"P-384":       func(k *Key) { k.PublicKey = p384 },
		"http":        func(k *Key) { k.Origin = "http://sluice.example" },
		"a path":      func(k *Key) { k.Origin = "https://sluice.example/" },
		"capitals":    func(k *Key) { k.Origin = "https://Sluice.example" },
		"no host":     func(k *Key) { k.Origin = "https://" },
		"a host only": func(k *Key) { k.Origin = "sluice.example" },
		"with a user": func(k *Key) { k.Origin = "https://ada@sluice.example" },
	} {
		k := good
		change(&k)
		if err := k.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	padded := good
	padded.ID += "=="
	other := table.Table[len(table.Table)-1].Key
	if !good.Same(padded) || good.Same(other) || !other.Same(Key{ID: "x", PublicKey: other.PublicKey}) {
		t.Error("keys are not compared by what they are")
	}
}

// An assertion counts once, and an authenticator that counts must count upwards.
func TestLog(t *testing.T) {
	t.Parallel()
	var l Log
	for _, c := range []struct {
		credential, signed string
		counter            uint32
		want               string
	}{
		{"a", "1", 0, ""}, {"a", "1", 0, "used before"}, {"a", "2", 0, ""}, {"a", "3", 5, ""}, {"a", "4", 5,
			"counter is 5"},
		{"a", "5", 4, "counter is 4 after 5"}, {"a", "6", 0, "counter is 0"}, {"b", "7", 1, ""}, {"a", "8", 6, ""},
		{"b", "4", 9, "used before"},
	} {
		err := l.Note(Verified{Credential: c.credential, Counter: c.counter, Signed: c.signed})
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	data, err := os.ReadFile("testdata/assertions.json")
	var table independent
	if err == nil {
		err = json.Unmarshal(data, &table)
	}
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range table.Table[:3] {
		f.Add(c.Assertion.ClientData, c.Assertion.AuthenticatorData, c.Assertion.Signature)
	}
	first := table.Table[0]
	f.Fuzz(func(t *testing.T, clientData, authenticatorData, signature string) {
		a := Assertion{ID: first.Key.ID, Nonce: table.Statement.Nonce, ClientData: clientData,
			AuthenticatorData: authenticatorData, Signature: signature}
		if _, err := first.Key.Verify(a, Statement(table.Statement)); err == nil {
			known := false
			for _, c := range table.Table {
				known = known || c.Verified && strings.TrimRight(authenticatorData,
					"=") == c.Assertion.AuthenticatorData
			}
			if !known {
				t.Errorf("%+v is verified", a)
			}
		}
	})
}
