package trust_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/releases"
)

var now = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

func version(t *testing.T, text string) releases.Version {
	t.Helper()
	v, err := releases.ParseVersion(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// take does what a cell does before it renders.
func take(t *testing.T, s trust.State, b trust.Bundle, at time.Time) (trust.State, error) {
	t.Helper()
	_, s, err := takeTrusted(t, s, b, at)
	return s, err
}

func takeTrusted(t *testing.T, s trust.State, b trust.Bundle, at time.Time) (*trust.Trusted, trust.State, error) {
	t.Helper()
	trusted, s, err := trust.Verify(s, b, trusttest.Channel, at)
	if err != nil {
		return nil, s, err
	}
	if err := trusted.Check(version(t, trusttest.Version), trusttest.Digest()); err != nil {
		return nil, s, err
	}
	if trusted.Head != trusttest.Digest() {
		return nil, s, errors.New("the head is another release")
	}
	return trusted, s, nil
}

func repository(t *testing.T) *trusttest.Repository {
	t.Helper()
	r, err := trusttest.New(now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func bundle(t *testing.T, r *trusttest.Repository) trust.Bundle {
	t.Helper()
	b, err := r.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// T1: each repository of the corpus, valid or attacked in each role, has its verdict.
func TestCorpus(t *testing.T) {
	corpus, err := trusttest.Corpus(now)
	if err != nil {
		t.Fatal(err)
	}
	if len(corpus) < 60 {
		t.Errorf("the corpus has %d repositories", len(corpus))
	}
	for _, c := range corpus {
		s, err := trust.State{Root: c.Root}, error(nil)
		for _, b := range c.Told {
			var trusted *trust.Trusted
			if trusted, s, err = takeTrusted(t, s, b, now); err == nil {
				err = c.Allows(trusted)
			}
		}
		if want := c.Valid && !c.Stricter; want != (err == nil) {
			t.Errorf("%s: valid %v, got %v", c.Name, want, err)
		}
	}
}

// T2, T3: after each refusal, what was kept still takes the good repository, and is never older than before.
func TestT3VersionsNeverGoBack(t *testing.T) {
	corpus, err := trusttest.Corpus(now)
	if err != nil {
		t.Fatal(err)
	}
	good := repository(t)
	s, err := take(t, trust.State{Root: bundle(t, good).Roots[0]}, bundle(t, good), now)
	if err != nil {
		t.Fatal(err)
	}
	old := bundle(t, good)
	good.Rotate().Signed["expires"] = now.Add(time.Hour).Format(time.RFC3339)
	good.Roles[trust.RoleReleases].Signed["version"] = trusttest.FirstVersion + 1
	good.Snapshot.Signed["version"], good.Timestamp.Signed["version"] = 9, 9
	delete(good.Snapshot.Signed, "meta")
	delete(good.Timestamp.Signed, "meta")
	newest := bundle(t, good)
	if s, err = take(t, s, newest, now); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.Root, newest.Roots[1]) {
		t.Error("T2: the newest root is not what is kept")
	}
	for _, b := range append([]trust.Bundle{old}, lastBundles(corpus)...) {
		after, _ := take(t, s, b, now)
		for role, pair := range map[string][2][]byte{
			"root": {s.Root, after.Root}, "timestamp": {s.Timestamp, after.Timestamp},
			"snapshot": {s.Snapshot, after.Snapshot}, "releases": {s.Roles["releases"], after.Roles["releases"]}} {
			if fileVersion(t, pair[1]) < fileVersion(t, pair[0]) {
				t.Errorf("the %s file went back", role)
			}
		}
		if _, err := take(t, after, newest, now); err != nil && bytes.Equal(after.Timestamp, s.Timestamp) {
			t.Errorf("the good repository is refused after a bad one: %v", err)
		}
	}
	if _, err := take(t, s, old, now); err == nil {
		t.Error("an older timestamp was taken")
	}
}

func lastBundles(all []trusttest.Case) (bundles []trust.Bundle) {
	for _, c := range all {
		bundles = append(bundles, c.Told[len(c.Told)-1])
	}
	return bundles
}

func fileVersion(t *testing.T, data []byte) int64 {
	t.Helper()
	var file struct{ Signed struct{ Version int64 } }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.Signed.Version
}

// T3: what becomes of another channel's head is no concern of a cell: its channel may be signed no longer, or its file
// be lost or older. The cells of that channel take nothing then.
func TestT3OtherChannelsEnd(t *testing.T) {
	other := trust.ChannelRole("other")
	for name, change := range map[string]func(r *trusttest.Repository){
		"removed":    func(r *trusttest.Repository) { delete(r.Roles, other) },
		"older":      func(r *trusttest.Repository) { r.Roles[other].Signed["version"] = trusttest.FirstVersion - 1 },
		"not listed": func(r *trusttest.Repository) { r.Snapshot.Signed["meta"] = withoutHead(t, r, other) },
	} {
		r := repository(t)
		head := r.Clone().Roles[trust.ChannelRole(trusttest.Channel)]
		targets := head.Signed["targets"].(trusttest.JSON)
		head.Signed["targets"] = trusttest.JSON{
			trust.HeadTarget("other"): targets[trust.HeadTarget(trusttest.Channel)]}
		r.Roles[other] = head
		b := bundle(t, r)
		mine, err := take(t, trust.State{Root: b.Roots[0]}, b, now)
		if err != nil {
			t.Fatal(err)
		}
		_, theirs, err := trust.Verify(trust.State{Root: b.Roots[0]}, b, "other", now)
		if err != nil {
			t.Fatal(err)
		}
		r.Renew()
		change(r)
		b = bundle(t, r)
		if _, err := take(t, mine, b, now); err != nil {
			t.Errorf("%s: a cell of another channel: %v", name, err)
		}
		if _, _, err := trust.Verify(theirs, b, "other", now); err == nil {
			t.Errorf("%s: a cell of the channel takes it", name)
		}
		r.Renew()
		r.Roles[trust.ChannelRole(trusttest.Channel)].Signed["version"] = trusttest.FirstVersion - 1
		if _, err := take(t, mine, bundle(t, r), now); err == nil {
			t.Errorf("%s: its own channel's head went back, and the cell takes it", name)
		}
	}
}

// withoutHead returns what a snapshot says that does not name a role's file.
func withoutHead(t *testing.T, r *trusttest.Repository, role string) trusttest.JSON {
	t.Helper()
	c := r.Clone()
	delete(c.Roles, role)
	bundle(t, c)
	return c.Snapshot.Signed["meta"].(trusttest.JSON)
}

// T4: what expired is told apart from what is forged; and without contact, what was kept suffices until it expires.
func TestT4ExpiredAndUnreachable(t *testing.T) {
	r := repository(t)
	b := bundle(t, r)
	s, err := take(t, trust.State{Root: b.Roots[0]}, b, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take(t, s, trust.Bundle{}, now.Add(23*time.Hour)); err != nil {
		t.Errorf("without contact: %v", err)
	}
	for _, later := range []time.Duration{25 * time.Hour, 8 * 24 * time.Hour, 400 * 24 * time.Hour} {
		if _, err := take(t, s, b, now.Add(later)); !errors.Is(err, trust.ErrExpired) {
			t.Errorf("after %s: %v", later, err)
		}
	}
	_, err = take(t, trust.State{Root: b.Roots[0]}, trust.Bundle{}, now)
	if errors.Is(err, trust.ErrExpired) || err == nil {
		t.Errorf("nothing at all: %v", err)
	}
	if _, err := take(t, s, b, now.Add(-365*24*time.Hour)); err != nil {
		t.Errorf("a clock that is a year behind refuses what is signed: %v", err)
	}
}

// T6: each file is held to the instant of the verification, and none to the machine's clock: up to its end all are
// good, and after it the one is not, also where its bytes were verified before.
func TestT6OneInstant(t *testing.T) {
	for _, role := range trusttest.Roles() {
		r := repository(t)
		end := now.Add(time.Hour)
		d := r.Roles[role]
		switch role {
		case trust.RoleRoot:
			d = r.Rotate()
		case trust.RoleTimestamp:
			d = r.Timestamp
		case trust.RoleSnapshot:
			d = r.Snapshot
		}
		d.Signed["expires"] = end.Format(time.RFC3339)
		b := bundle(t, r)
		m, s := new(trust.Verifier), trust.State{Root: b.Roots[0]}
		for _, at := range []time.Time{now, end} {
			trusted, next, err := m.Verify(s, b, trusttest.Channel, at)
			if s = next; err != nil || !trusted.Until.Equal(end) {
				t.Fatalf("%s at %s: %v", role, at, err)
			}
		}
		for name, m := range map[string]*trust.Verifier{"known": m, "new": {}} {
			_, _, err := m.Verify(s, b, trusttest.Channel, end.Add(time.Second))
			if !errors.Is(err, trust.ErrExpired) || !strings.Contains(err.Error(), role) {
				t.Errorf("%s, %s, a second after its end: %v", role, name, err)
			}
			if _, _, err := m.Verify(s, b, trusttest.Channel, now); err != nil {
				t.Errorf("%s, %s, at an instant before: %v", role, name, err)
			}
		}
	}
}

// What a cell kept proves what it runs, whatever the control plane served since; and it proves nothing else.
func TestProve(t *testing.T) {
	r := repository(t)
	b := bundle(t, r)
	s, err := take(t, trust.State{Root: b.Roots[0]}, b, now)
	if err != nil {
		t.Fatal(err)
	}
	r.Renew()
	r.Roles[trust.RoleReleases].Signed["version"] = trusttest.FirstVersion - 1
	if s, err = take(t, s, bundle(t, r), now); err == nil || bytes.Equal(s.Timestamp, b.Timestamp) {
		t.Fatal("older files were taken, or no newer timestamp", err)
	}
	v := version(t, trusttest.Version)
	if err := s.Prove(trusttest.Channel, v, trusttest.Digest(), now); err != nil {
		t.Error(err)
	}
	if s.Prove(trusttest.Channel, v, releases.DigestBytes(nil), now) == nil ||
		s.Prove("other", v, trusttest.Digest(), now) == nil {
		t.Error("other bytes, or another channel, are proven")
	}
	err = s.Prove(trusttest.Channel, v, trusttest.Digest(), now.Add(400*24*time.Hour))
	if !errors.Is(err, trust.ErrExpired) {
		t.Errorf("after a year: %v", err)
	}
	for _, role := range []string{trust.RoleTargets, trust.RoleReleases} {
		r := repository(t)
		r.Roles[role].By = []string{"ada", "engine"}
		forged := bundle(t, r)
		s := trust.State{Root: b.Roots[0], Roles: maps.Clone(b.Roles)}
		s.Roles[role] = forged.Roles[role]
		if err := s.Prove(trusttest.Channel, v, trusttest.Digest(), now); err == nil ||
			!strings.Contains(err.Error(), "1 of 2 signatures: ada") {
			t.Errorf("%s: %v", role, err)
		}
		delete(s.Roles, role)
		if s.Prove(trusttest.Channel, v, trusttest.Digest(), now) == nil {
			t.Errorf("%s is missing", role)
		}
	}
}

// T5: a release is revoked by its version, whatever the time, and stays so by a floor.
func TestT5RevokedByVersion(t *testing.T) {
	for _, policy := range []trusttest.JSON{{"revoked": trusttest.JSON{"1.1.0": "loses data"}}, {"floor": "1.1.1"}} {
		r := repository(t)
		r.Roles[trust.RoleTargets].Signed["x-sluice"] = policy
		b := bundle(t, r)
		for _, at := range []time.Time{now.Add(-1000 * time.Hour), now, now.Add(20 * time.Hour)} {
			if _, err := take(t, trust.State{Root: b.Roots[0]}, b, at); err == nil {
				t.Errorf("%v at %v: taken", policy, at)
			}
		}
	}
}

// T7: one who has all online keys can choose among what the signers listed for the channel, and nothing else.
func TestT7OnlineKeysOnlyPick(t *testing.T) {
	good := bundle(t, repository(t))
	s, err := take(t, trust.State{Root: good.Roots[0]}, good, now)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(21, 7)) //nolint:gosec // a test
	for i := range 150 {
		r := repository(t)
		for _, d := range []*trusttest.Doc{r.Timestamp, r.Snapshot} {
			d.Signed["version"] = trusttest.FirstVersion + 1 + random.IntN(3)
		}
		role := trusttest.Roles()[random.IntN(len(trusttest.Roles()))]
		doc := r.Roles[trust.ChannelRole(trusttest.Channel)]
		if d := r.Roles[role]; d != nil {
			doc = d
		}
		other := strings.Repeat("ab", 32)
		digest := string(trusttest.Digest().Hex())
		mutate(random, doc, digest, other)
		trusted, _, err := trust.Verify(s, bundle(t, r), trusttest.Channel, now)
		if err != nil {
			continue
		}
		if trusted.Check(version(t, "1.1.0"), releases.Digest("sha256:"+other)) == nil ||
			trusted.Check(version(t, "1.0.0"), trusttest.Digest()) == nil {
			t.Fatalf("mutation %d of %s made unsigned bytes run", i, role)
		}
	}
}

// mutate changes a file, and signs it with whatever is online.
func mutate(random *rand.Rand, d *trusttest.Doc, digest, other string) {
	d.By = [][]string{{"engine"}, {"engine", "ada"}, {"engine", "mallory"}, d.By}[random.IntN(4)]
	d.Change = func(data []byte) []byte {
		switch random.IntN(5) {
		case 0:
			return bytes.ReplaceAll(data, []byte(digest), []byte(other))
		case 1:
			at := random.IntN(len(data))
			data[at] ^= byte(1 + random.IntN(255))
		case 2:
			return data[:random.IntN(len(data))]
		case 3:
			return bytes.ReplaceAll(data, []byte(`"threshold":2`), []byte(`"threshold":1`))
		}
		return data
	}
	if random.IntN(2) == 0 { // signed after the change
		text, err := json.Marshal(d.Signed)
		if err != nil {
			return
		}
		var signed trusttest.JSON
		if json.Unmarshal(bytes.ReplaceAll(text, []byte(digest), []byte(other)), &signed) == nil {
			d.Signed, d.By = signed, []string{"engine"}
		}
	}
}

// What is larger than its bound, or has depth or nulls where go-tuf would panic, is refused with an error.
func FuzzVerify(f *testing.F) {
	r, err := trusttest.New(now)
	if err != nil {
		f.Fatal(err)
	}
	b, err := r.Bundle()
	if err != nil {
		f.Fatal(err)
	}
	for i, data := range [][]byte{b.Roots[0], b.Timestamp, b.Snapshot, b.Roles["targets"], b.Roles["releases"],
		[]byte(`{"signed":{"_type":"targets","targets":{"x":null}},"signatures":[]}`),
		[]byte(`{"signed":{"_type":"root","keys":{"a":null},"roles":{"root":null}},"signatures":[]}`),
		bytes.Repeat([]byte("["), 1<<20)} {
		f.Add(i, data)
	}
	f.Fuzz(func(t *testing.T, which int, data []byte) {
		bundle, s := b, trust.State{Root: b.Roots[0]}
		bundle.Roles = map[string][]byte{}
		for role, file := range b.Roles {
			bundle.Roles[role] = file
		}
		switch which & 7 {
		case 0:
			s.Root = data
		case 1:
			bundle.Timestamp = data
		case 2:
			bundle.Snapshot = data
		case 3:
			bundle.Roles["targets"] = data
		case 4:
			bundle.Roles["releases"] = data
		case 5:
			bundle.Roots = append(bundle.Roots[:1:1], data)
		case 6:
			s.Timestamp, s.Snapshot = data, data
		default:
			s.Roles = map[string][]byte{"targets": data, "releases": data}
		}
		_, _, _ = trust.Verify(s, bundle, trusttest.Channel, now)
	})
}
