package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// How long what the engine signs is good for.
const (
	HeadLifetime   = 7 * 24 * time.Hour
	ServedLifetime = 24 * time.Hour // timestamp and snapshot
)

// HeadFileName returns the path of a channel's signed head in the repository.
func HeadFileName(channel string) string { return path.Join("channels", channel, "head.tuf.json") }

// Head is a channel's head as the engine signed it.
type Head struct {
	Version int64
	Release string
	Digest  releases.Digest
	Expires time.Time
	Data    []byte
}

// customHead is the custom part of a head's target.
type customHead struct {
	Release string `json:"release"`
}

// loadedHead is a head as a cache keeps it: nobody has verified its signature.
type loadedHead struct {
	head *Head
	file *metadata.Metadata[metadata.TargetsType]
}

// ReadHeads returns the signed heads of the channels that need signatures, by channel. One that can't be read, or lacks
// the engine's signature, is left out: the engine signs it again.
func (l *Ledger) ReadHeads(c *manifest.Cache, files fs.FS) map[string]*Head {
	heads := map[string]*Head{}
	for _, channel := range l.Channels() {
		found, fault := manifest.LoadBytes(c, files, HeadFileName(channel), func(data []byte) loadedHead {
			return parseHead(channel, data)
		})
		if fault != nil || found.head == nil {
			continue
		}
		signers, ok := delegatedRole(l.Targets.targets, ChannelRole(channel))
		if ok && countSignatures(signers, found.file).Held() {
			heads[channel] = found.head
		}
	}
	return heads
}

func parseHead(channel string, data []byte) loadedHead {
	role := ChannelRole(channel)
	file, fault := parse[metadata.TargetsType](role, role, data)
	if fault != nil {
		return loadedHead{}
	}
	target := file.Signed.Targets[HeadTarget(channel)]
	if target == nil || len(file.Signed.Targets) != 1 {
		return loadedHead{}
	}
	h := &Head{Version: file.Signed.Version, Expires: file.Signed.Expires, Data: data}
	var custom customHead
	var err error
	if h.Digest, err = digestOf(target); err != nil || target.Custom == nil ||
		json.Unmarshal(*target.Custom, &custom) != nil {
		return loadedHead{}
	}
	h.Release = custom.Release
	return loadedHead{h, file}
}

// HeadVersion returns the version of a channel's signed head; 0: it can't be read. Nobody has verified its signature.
func HeadVersion(channel string, data []byte) int64 {
	if h := parseHead(channel, data).head; h != nil {
		return h.Version
	}
	return 0
}

// IsDue reports whether the engine has to sign a channel's head anew: it is missing (nil), names other bytes, or half
// of its life is over. due is when that will be; zero: it is.
func (h *Head) IsDue(digest releases.Digest, now time.Time) (due time.Time, is bool) {
	if h == nil || h.Digest != digest {
		return time.Time{}, true
	}
	if due = h.Expires.Add(-HeadLifetime / 2); !now.Before(due) {
		return time.Time{}, true
	}
	return due, false
}

// MaySignHead reports whether the owner of an SSH key (authorized_keys form) may sign a channel's head.
func (l *Ledger) MaySignHead(channel, key string) bool {
	by, err := ParseKey("", key)
	if err != nil || l.Targets == nil {
		return false
	}
	signers, bound := delegatedRole(l.Targets.targets, ChannelRole(channel))
	return bound && signers.has(by) != ""
}

// MayTimestamp reports whether a key may sign the timestamp and the snapshot.
func (l *Ledger) MayTimestamp(by Signer) bool {
	k := Key{Public: by.Public}
	return l.Root() != nil && rootRole(l.Root().root, RoleTimestamp).has(k) != "" &&
		rootRole(l.Root().root, RoleSnapshot).has(k) != ""
}

// SSHSigner returns what signs with an SSH key. TUF's signatures are plain Ed25519: keys that sign something of their
// own around the text, such as those of FIDO tokens, can't make them.
func SSHSigner(key ssh.Signer) (Signer, error) {
	k, err := ParseKey("this signer", string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	if err != nil {
		return Signer{}, err
	}
	return Signer{Public: k.Public, Sign: func(payload []byte) ([]byte, error) {
		signature, err := key.Sign(nil, payload) // Ed25519 draws nothing at random
		if err != nil {
			return nil, err
		}
		if signature.Format != ssh.KeyAlgoED25519 {
			return nil, fmt.Errorf("the key signed with %s, not with %s", signature.Format, ssh.KeyAlgoED25519)
		}
		return signature.Blob, nil
	}}, nil
}

// nextVersion is after the version before, and never before what any engine signed earlier: its number is the time, so
// that a restored database can't make versions go back.
func nextVersion(before int64, now time.Time) int64 { return max(before+1, now.Unix()) }

// SignHead signs that a channel's head is a listed release. before is the head that was signed last; nil: none was.
func (l *Ledger) SignHead(channel string, v releases.Version, before *Head, now time.Time, by Signer) ([]byte, error) {
	if l.Targets == nil {
		return nil, errNoSigners
	}
	r, listed := l.Listed[v.String()]
	signers, bound := delegatedRole(l.Targets.targets, ChannelRole(channel))
	if !listed || !bound {
		return nil, fmt.Errorf("sign the head of %s: the signers did not sign %s for it", channel, v)
	}
	target, err := r.target()
	if err != nil {
		return nil, fmt.Errorf("sign the head of %s: %w", channel, err)
	}
	custom, err := json.Marshal(customHead{v.String()})
	if err != nil {
		return nil, fmt.Errorf("sign the head of %s: %w", channel, err)
	}
	target.Custom = (*json.RawMessage)(&custom)
	m := metadata.Targets(now.UTC().Truncate(time.Second).Add(HeadLifetime))
	m.Signed.Targets = map[string]*metadata.TargetFiles{HeadTarget(channel): target}
	last := int64(0)
	if before != nil {
		last = before.Version
	}
	m.Signed.Version = nextVersion(last, now)
	data, err := signOnline(m, signers, by)
	if err != nil {
		return nil, fmt.Errorf("sign the head of %s: %w", channel, err)
	}
	return data, nil
}

// signOnline returns a file with one signature.
func signOnline[T metadata.Roles](m *metadata.Metadata[T], signers role, by Signer) ([]byte, error) {
	id := signers.has(Key{Public: by.Public})
	if id == "" {
		return nil, fmt.Errorf("the engine's key may not sign %s: sluice trust rotate --engine", signers.name)
	}
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return nil, err
	}
	signature, err := by.Sign(payload)
	if err != nil {
		return nil, err
	}
	m.Signatures = []metadata.Signature{{KeyID: id, Signature: signature}}
	data, err := m.ToBytes(true)
	return append(data, '\n'), err
}

// Served is what the engine signs every hour, and keeps out of the repository.
type Served struct {
	Version   int64     `json:"version"` // of both files
	Signed    time.Time `json:"signed"`
	Content   string    `json:"content"` // what the snapshot names: see Ledger.Content
	Snapshot  []byte    `json:"snapshot"`
	Timestamp []byte    `json:"timestamp"`
}

// Content returns a text that changes with everything that a snapshot names, and with the key that signs it.
func (l *Ledger) Content(heads map[string]*Head, by Signer) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%x", by.Public)
	for _, f := range l.Counting() {
		fmt.Fprintf(sum, " %s %s", f.Path, f.Digest)
	}
	for _, channel := range slices.Sorted(maps.Keys(heads)) {
		fmt.Fprintf(sum, " %s %s", channel, releases.DigestBytes(heads[channel].Data))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// SignServed signs the snapshot and the timestamp. before is what was signed last; nil: nothing was.
func (l *Ledger) SignServed(heads map[string]*Head, before *Served, now time.Time, by Signer) (*Served, error) {
	if l.Targets == nil || l.Releases == nil {
		return nil, errNoSigners
	}
	last := int64(0)
	if before != nil {
		last = before.Version
	}
	s := &Served{Version: nextVersion(last, now), Signed: now, Content: l.Content(heads, by)}
	expires := now.UTC().Truncate(time.Second).Add(ServedLifetime)
	snapshot := metadata.Snapshot(expires)
	snapshot.Signed.Version = s.Version
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{}
	for _, f := range l.lists() {
		snapshot.Signed.Meta[f.Role+".json"] = describe(f.Version, f.Data)
	}
	if l.Flags == nil {
		if is := before.namesFlags(); is != nil {
			snapshot.Signed.Meta[RoleFlags+".json"] = is
		}
	}
	for channel, h := range heads {
		snapshot.Signed.Meta[ChannelRole(channel)+".json"] = describe(h.Version, h.Data)
	}
	var err error
	if s.Snapshot, err = signOnline(snapshot, rootRole(l.Root().root, RoleSnapshot), by); err != nil {
		return nil, fmt.Errorf("sign the snapshot: %w", err)
	}
	timestamp := metadata.Timestamp(expires)
	timestamp.Signed.Version = s.Version
	timestamp.Signed.Meta = map[string]*metadata.MetaFiles{RoleSnapshot + ".json": describe(s.Version, s.Snapshot)}
	if s.Timestamp, err = signOnline(timestamp, rootRole(l.Root().root, RoleTimestamp), by); err != nil {
		return nil, fmt.Errorf("sign the timestamp: %w", err)
	}
	return s, nil
}

// namesFlags returns how the snapshot names the list of flags; nil: it does not. What a snapshot named once, the next
// ones have to name as well, or clients of TUF refuse them: so it goes on when no signers of flags are left, and while
// new ones have not signed yet.
func (s *Served) namesFlags() *metadata.MetaFiles {
	if s == nil {
		return nil
	}
	snapshot, fault := parse[metadata.SnapshotType](RoleSnapshot, RoleSnapshot, s.Snapshot)
	if fault != nil {
		return nil
	}
	return snapshot.Signed.Meta[RoleFlags+".json"]
}

func describe(version int64, data []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// Published is what cells, and any client of TUF, may ask for: files that belong together. It is never changed.
type Published struct {
	Ledger *Ledger
	Heads  map[string]*Head
	Served *Served
}

// Bundle returns what a cell of a channel has to know beyond the root that it has; 0: it has none, and begins with the
// one of which it was given the digest, or with the first.
func (p *Published) Bundle(channel string, have int64, pin releases.Digest) Bundle {
	for _, f := range p.Ledger.Roots {
		if have == 0 && f.Digest == pin {
			have = f.Version - 1
		}
	}
	b := Bundle{Timestamp: p.Served.Timestamp, Snapshot: p.Served.Snapshot, Roles: map[string][]byte{}}
	for _, f := range p.Ledger.Roots {
		if f.Version > have && len(b.Roots) < MaxRotations {
			b.Roots = append(b.Roots, f.Data)
		}
	}
	for _, f := range p.Ledger.lists() {
		b.Roles[f.Role] = f.Data
	}
	if h := p.Heads[channel]; h != nil {
		b.Roles[ChannelRole(channel)] = h.Data
	}
	return b
}

// File returns a file under the name by which clients of TUF ask for it, such as 3.root.json, timestamp.json or
// channel-stable.json; nil: there is none.
func (p *Published) File(name string) []byte {
	all := map[string][]byte{RoleTimestamp + ".json": p.Served.Timestamp}
	add := func(role string, version int64, data []byte) {
		all[role+".json"], all[fmt.Sprintf("%d.%s.json", version, role)] = data, data
	}
	for _, f := range p.Ledger.Counting() {
		add(f.Role, f.Version, f.Data)
	}
	add(RoleSnapshot, p.Served.Version, p.Served.Snapshot)
	for channel, h := range p.Heads {
		add(ChannelRole(channel), h.Version, h.Data)
	}
	return all[name]
}
