// Package trusttest is a signed repository in memory that can be attacked, for tests of clients: a Corpus of
// repositories, each with what a client should make of it. It does no I/O, and a Repository belongs to one test.
package trusttest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing/fstest"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/releases"
)

// The one channel of a Repository, and the release that its head names.
const (
	Channel = "dedicated"
	Version = "1.1.0"
)

// FirstVersion is that of every file but the root, so that there can be older ones.
const FirstVersion = 5

// content stands for the release's canonical tar.
var content = []byte("release " + Version)

// Digest is the release's.
func Digest() releases.Digest { return releases.DigestBytes(content) }

// Key returns somebody's key, always the same.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Public returns a key as the signers' files name it.
func Public(name string) trust.Key {
	return trust.Key{Name: name, Public: Key(name).Public().(ed25519.PublicKey)}
}

// Signer signs in somebody's name.
func Signer(name string) trust.Signer {
	return trust.Signer{Public: Public(name).Public,
		Sign: func(payload []byte) ([]byte, error) { return ed25519.Sign(Key(name), payload), nil }}
}

// JSON is an object of a file.
type JSON = map[string]any

// Doc is a file before it is signed.
type Doc struct {
	Signed JSON
	By     []string // whose keys sign it
	// Change, if not nil, changes the whole file after it was signed; nil bytes: there is no such file.
	Change func(data []byte) []byte
}

// Repository is what a control plane serves. ada, grace and linus are the signers, two of whom are needed; engine is
// online.
type Repository struct {
	Now   time.Time
	Roots []*Doc // by version, from 1
	Roles map[string]*Doc

	Timestamp, Snapshot *Doc
	Bare                bool // the snapshot names versions alone, without hashes
}

// head is the channel's role.
var head = trust.ChannelRole(Channel)

// New makes a repository as the signers' verbs do, with what the engine adds.
func New(now time.Time) (*Repository, error) {
	v, err := releases.ParseVersion(Version)
	if err != nil {
		return nil, err
	}
	d, err := trust.NewDraft(nil, now)
	if err != nil {
		return nil, err
	}
	if err := d.Found(trust.Foundation{Signers: []trust.Key{Public("ada"), Public("grace"), Public("linus")},
		Threshold: 2, Online: []trust.Key{Public("engine")}, Channels: []string{Channel, "other"}}); err != nil {
		return nil, err
	}
	if _, err := d.List(trust.Release{Version: v, Digest: Digest(), Length: int64(len(content)),
		Channels: []string{Channel}}); err != nil {
		return nil, err
	}
	files, err := d.Files()
	if err != nil {
		return nil, err
	}
	r := &Repository{Now: now.UTC().Truncate(time.Second), Roles: map[string]*Doc{}}
	for _, role := range []string{trust.RoleRoot, trust.RoleTargets, trust.RoleReleases} {
		var file struct{ Signed JSON }
		if err := decode(files[trust.FileName(role, 1)], &file); err != nil {
			return nil, err
		}
		doc := &Doc{Signed: file.Signed, By: []string{"ada", "grace"}}
		if role == trust.RoleRoot {
			r.Roots = []*Doc{doc}
			continue
		}
		doc.Signed["version"], r.Roles[role] = FirstVersion, doc
	}
	online := func(kind string, life time.Duration, more JSON) *Doc {
		signed := JSON{"_type": kind, "spec_version": "1.0.31", "version": FirstVersion,
			"expires": expiry(r.Now.Add(life))}
		maps.Copy(signed, more)
		return &Doc{Signed: signed, By: []string{"engine"}}
	}
	r.Roles[head] = online("targets", 7*24*time.Hour, JSON{"targets": JSON{trust.HeadTarget(Channel): JSON{
		"length": len(content), "hashes": JSON{"sha256": Digest().Hex()}, "custom": JSON{"release": Version}}}})
	r.Snapshot = online("snapshot", 24*time.Hour, JSON{})
	r.Timestamp = online("timestamp", 24*time.Hour, JSON{})
	return r, nil
}

func expiry(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// decode keeps numbers as they are written.
func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(into)
}

// bytes returns the signed file.
func (d *Doc) bytes() ([]byte, error) {
	payload, err := cjson.EncodeCanonical(d.Signed)
	if err != nil {
		return nil, err
	}
	signatures := []JSON{}
	for _, name := range d.By {
		signatures = append(signatures, JSON{"keyid": KeyID(name),
			"sig": hex.EncodeToString(ed25519.Sign(Key(name), payload))})
	}
	data, err := json.Marshal(JSON{"signed": d.Signed, "signatures": signatures})
	if d.Change != nil {
		data = d.Change(data)
	}
	return data, err
}

// KeyID returns the id of somebody's key.
func KeyID(name string) string {
	data, err := cjson.EncodeCanonical(JSON{"keytype": "ed25519", "scheme": "ed25519",
		"keyval": JSON{"public": hex.EncodeToString(Public(name).Public)}})
	if err != nil {
		panic(err) // it is the same for every name
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// KeyFile returns the public part of somebody's key, as files have it.
func KeyFile(name string) string { return hex.EncodeToString(Public(name).Public) }

// Bundle signs everything. The snapshot and the timestamp name what is there, as one who has the online key would have
// them do; a "meta" that is set before stays.
func (r *Repository) Bundle() (b trust.Bundle, err error) {
	b.Roles = map[string][]byte{}
	meta := JSON{}
	for _, role := range slices.Sorted(maps.Keys(r.Roles)) {
		data, err := r.Roles[role].bytes()
		if err != nil {
			return b, err
		}
		if data != nil {
			b.Roles[role] = data
		}
		meta[role+".json"] = r.describe(r.Roles[role], data)
	}
	for _, root := range r.Roots {
		data, err := root.bytes()
		if err != nil {
			return b, err
		}
		if data != nil {
			b.Roots = append(b.Roots, data)
		}
	}
	if _, set := r.Snapshot.Signed["meta"]; !set {
		r.Snapshot.Signed["meta"] = meta
	}
	if b.Snapshot, err = r.Snapshot.bytes(); err != nil {
		return b, err
	}
	if _, set := r.Timestamp.Signed["meta"]; !set {
		r.Timestamp.Signed["meta"] = JSON{"snapshot.json": r.describe(r.Snapshot, b.Snapshot)}
	}
	b.Timestamp, err = r.Timestamp.bytes()
	return b, err
}

func (r *Repository) describe(d *Doc, data []byte) JSON {
	if r.Bare || data == nil {
		return JSON{"version": d.Signed["version"]}
	}
	sum := sha256.Sum256(data)
	return JSON{"version": d.Signed["version"], "length": len(data),
		"hashes": JSON{"sha256": hex.EncodeToString(sum[:])}}
}

// doc returns a role's newest file.
func (r *Repository) doc(role string) *Doc {
	switch role {
	case trust.RoleRoot:
		return r.Roots[len(r.Roots)-1]
	case trust.RoleTimestamp:
		return r.Timestamp
	case trust.RoleSnapshot:
		return r.Snapshot
	}
	return r.Roles[role]
}

// Rotate adds a root: a copy of the newest, with the next version.
func (r *Repository) Rotate() *Doc {
	last := r.Roots[len(r.Roots)-1]
	next := &Doc{Signed: copyOf(last.Signed), By: slices.Clone(last.By)}
	next.Signed["version"] = len(r.Roots) + 1
	r.Roots = append(r.Roots, next)
	return next
}

func copyOf(v JSON) JSON {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("copy a file of the test's own: %w", err))
	}
	var c JSON
	if err := decode(data, &c); err != nil {
		panic(fmt.Errorf("copy a file of the test's own: %w", err))
	}
	return c
}

// List has the signers list a release for channels, beside those that are listed.
func (r *Repository) List(version string, digest releases.Digest, channels ...string) {
	list := r.Roles[trust.RoleReleases].Signed
	list["targets"].(JSON)["releases/"+version] = JSON{"length": 1, "hashes": JSON{"sha256": digest.Hex()},
		"custom": JSON{"channels": channels}}
}

// SignFlags has the signers say that ada and grace sign flags, and these sign parts of bundles.
func (r *Repository) SignFlags(parts ...trust.Part) {
	delegations := r.Roles[trust.RoleTargets].Signed["delegations"].(JSON)
	roles := delegations["roles"].([]any)
	if r.Roles[trust.RoleFlags] == nil {
		delegations["roles"] = append(roles, JSON{"name": trust.RoleFlags,
			"keyids": []string{KeyID("ada"), KeyID("grace")}, "threshold": 2, "terminating": true,
			"paths": []string{"flags/*/*", "announcements/*/*"}})
		r.Roles[trust.RoleFlags] = &Doc{By: []string{"ada", "grace"}, Signed: JSON{"_type": "targets",
			"spec_version": "1.0.31", "version": FirstVersion, "expires": expiry(r.Now.Add(trust.Lifetime))}}
	}
	targets := JSON{}
	for _, p := range parts {
		targets[p.Name+"/"+p.SHA256] = JSON{"length": p.Length, "hashes": JSON{"sha256": p.SHA256}, "custom": p.Custom}
	}
	r.Roles[trust.RoleFlags].Signed["targets"] = targets
}

// Restrict has the signers set the floor, and revoke releases.
func (r *Repository) Restrict(floor string, revoked ...string) {
	why := JSON{}
	for _, v := range revoked {
		why[v] = "it loses data"
	}
	r.Roles[trust.RoleTargets].Signed["x-sluice"] = JSON{"floor": floor, "revoked": why}
}

// Pick has the engine sign another head.
func (r *Repository) Pick(version string, digest releases.Digest) {
	r.Roles[head].Signed["targets"] = JSON{trust.HeadTarget(Channel): JSON{"length": 1,
		"hashes": JSON{"sha256": digest.Hex()}, "custom": JSON{"release": version}}}
}

// Renew gives every file of the engine's, and those of the signers that are named, the next version, and has the
// engine describe them anew.
func (r *Repository) Renew(roles ...string) {
	for _, d := range append([]*Doc{r.Snapshot, r.Timestamp, r.Roles[head]}, r.docs(roles)...) {
		n, _ := strconv.ParseInt(fmt.Sprint(d.Signed["version"]), 10, 64)
		d.Signed["version"] = n + 1
	}
	r.Describe()
}

// Describe has the engine describe the files as they are now.
func (r *Repository) Describe() {
	delete(r.Snapshot.Signed, "meta")
	delete(r.Timestamp.Signed, "meta")
}

func (r *Repository) docs(roles []string) (docs []*Doc) {
	for _, role := range roles {
		docs = append(docs, r.doc(role))
	}
	return docs
}

// Clone returns a copy that may be changed.
func (r *Repository) Clone() *Repository {
	c := &Repository{Now: r.Now, Roles: map[string]*Doc{}, Bare: r.Bare, Timestamp: r.Timestamp.clone(),
		Snapshot: r.Snapshot.clone()}
	for _, d := range r.Roots {
		c.Roots = append(c.Roots, d.clone())
	}
	for role, d := range r.Roles {
		c.Roles[role] = d.clone()
	}
	return c
}

func (d *Doc) clone() *Doc {
	return &Doc{Signed: copyOf(d.Signed), By: slices.Clone(d.By), Change: d.Change}
}

// Ledger returns what a repository says where ada and grace signed releases for channels, as the signers' verbs do.
func Ledger(now time.Time, channels []string, listed ...trust.Release) (*trust.Ledger, error) {
	d, err := trust.NewDraft(nil, now)
	if err != nil {
		return nil, err
	}
	if err := d.Found(trust.Foundation{Signers: []trust.Key{Public("ada"), Public("grace"), Public("linus")},
		Threshold: 2, Online: []trust.Key{Public("engine")}, Channels: channels}); err != nil {
		return nil, err
	}
	for _, r := range listed {
		if _, err := d.List(r); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"ada", "grace"} {
		if _, err := d.Sign(Signer(name)); err != nil {
			return nil, err
		}
	}
	files, err := d.Files()
	if err != nil {
		return nil, err
	}
	in := fstest.MapFS{}
	for name, data := range files {
		in[name] = &fstest.MapFile{Data: data, Mode: 0o644}
	}
	return trust.Read(nil, in), nil
}

// SignedHeads returns channels' heads at a release, as the engine signs them.
func SignedHeads(
	l *trust.Ledger, now time.Time, v releases.Version, channels ...string,
) (map[string]*trust.Head, error) {
	in := fstest.MapFS{}
	for _, name := range channels {
		data, err := l.SignHead(name, v, nil, now, Signer("engine"))
		if err != nil {
			return nil, err
		}
		in[trust.HeadFileName(name)] = &fstest.MapFile{Data: data, Mode: 0o644}
	}
	return l.ReadHeads(nil, in), nil
}
