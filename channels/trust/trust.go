// Package trust says which releases a channel's cells may run, by the word of release signers rather than of the
// control plane. The files are TUF metadata, in the layout that Uptane uses: signers authorise, the engine only picks.
//
//	trust/N.root.json       who signs what; 2 of 3, say, signed by themselves and by those of N-1
//	trust/N.targets.json    the policy: the floor, what is revoked, who signs releases, which channels are signed
//	trust/N.releases.json   a target for each release that may run: its digest, and the channels it may run in
//	trust/N.flags.json      where flags are signed: a target for each part of their bundles
//	channels/X/head.tuf.json, snapshot, timestamp    what the engine picked, by its online key
//
// Read returns the Ledger of a repository: the files that have their signatures, and those that wait for some. A Draft
// is a change of the first three files, which signers sign one after another. Verify is what a cell does: from what it
// believed last to what it is told now, at one instant.
//
// What always holds: a file counts only with its role's threshold of signatures of different keys; what is malformed,
// or means two things to two readers, counts for nothing; versions never go back, and a version has one content.
// Releases are revoked by version, never by date.
//
// The package is pure, and the only home of go-tuf. Ledgers are shared and never changed; a Draft belongs to one
// goroutine. The functions may be called at once.
package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/releases"
)

// Dir is the folder of the signers' files in a release repository.
const Dir = "trust"

// The roles. Names have no slash: clients make file names of them.
const (
	RoleRoot      = metadata.ROOT
	RoleTargets   = metadata.TARGETS
	RoleReleases  = "releases"
	RoleSnapshot  = metadata.SNAPSHOT
	RoleTimestamp = metadata.TIMESTAMP
)

// channelPrefix begins the role of a channel's head.
const channelPrefix = "channel-"

// ChannelRole returns the role that signs a channel's head.
func ChannelRole(channel string) string { return channelPrefix + channel }

// HeadTarget returns the name of the one target of a channel's role.
func HeadTarget(channel string) string { return "channels/" + channel + "/release" }

const releasePrefix = "releases/"

// ReleaseTarget returns the name of a release's target.
func ReleaseTarget(v releases.Version) string { return releasePrefix + v.String() }

// FileName returns the path of a signers' file in the repository.
func FileName(role string, version int64) string {
	return Dir + "/" + strconv.FormatInt(version, 10) + "." + role + ".json"
}

var filePattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([1-9][0-9]{0,8})\.(root|targets|releases|flags)\.json$`)
})

const (
	// MaxReleases bounds the releases that one file lists. Releases below the floor need not be listed.
	MaxReleases = 256
	// MaxRotations bounds the roots that one verification follows; the next one goes on from there.
	MaxRotations = 256
	// LeastThreshold is how many people it takes, at least, to change anything that signers decide.
	LeastThreshold = 2
)

// Key is an Ed25519 key with its owner's name, which signers sign too.
type Key struct {
	Name   string
	Public ed25519.PublicKey
}

// ParseKey reads a key as .pub files have it.
func ParseKey(name, line string) (Key, error) {
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return Key{}, fmt.Errorf("the key of %s is not an SSH public key: %w", name, err)
	}
	wrapped, ok := public.(ssh.CryptoPublicKey)
	if !ok || public.Type() != ssh.KeyAlgoED25519 {
		return Key{}, fmt.Errorf("the key of %s is of type %s: only ssh-ed25519 signs trust files", name, public.Type())
	}
	key, ok := wrapped.CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		return Key{}, fmt.Errorf("the key of %s is no Ed25519 key", name)
	}
	return Key{name, key}, nil
}

// Line returns the key as .pub files have it.
func (k Key) Line() string {
	public, err := ssh.NewPublicKey(k.Public)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

// nameField has a key's owner in its TUF form.
const nameField = "x-sluice-name"

func (k Key) tuf() *metadata.Key {
	key := &metadata.Key{Type: metadata.KeyTypeEd25519, Scheme: metadata.KeySchemeEd25519,
		Value: metadata.KeyVal{PublicKey: hex.EncodeToString(k.Public)}}
	if k.Name != "" {
		key.UnrecognizedFields = map[string]any{nameField: k.Name}
	}
	return key
}

// id returns the key's TUF id, which does not depend on the name.
func (k Key) id() string { return keyID(Key{Public: k.Public}.tuf()) }

func keyID(k *metadata.Key) string {
	data, err := cjson.EncodeCanonical(metadata.Key{Type: k.Type, Scheme: k.Scheme, Value: k.Value})
	if err != nil {
		return "" // no key has it
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ownerOf returns the name in a key, or else a short form of its id.
func ownerOf(id string, k *metadata.Key) string {
	if name, ok := k.UnrecognizedFields[nameField].(string); ok && name != "" {
		return name
	}
	return "key " + id[:min(len(id), 8)]
}

// Signer signs in somebody's name, with a file or an agent.
type Signer struct {
	Public ed25519.PublicKey
	Sign   func(payload []byte) ([]byte, error)
}

// Release is what signers say about one release.
type Release struct {
	Version  releases.Version
	Digest   releases.Digest
	Length   int64 // of the canonical tar, in bytes
	Channels []string
	Commit   string // has the release; may be empty

	From           releases.Version // see releases.Requires
	Infrastructure int
}

// customRelease is the custom part of a release's target.
type customRelease struct {
	Channels       []string         `json:"channels"`
	Commit         string           `json:"commit,omitempty"`
	From           releases.Version `json:"from,omitzero"`
	Infrastructure int              `json:"infrastructure,omitempty"`
}

func (r Release) target() (*metadata.TargetFiles, error) {
	sum, err := hex.DecodeString(r.Digest.Hex())
	if err != nil {
		return nil, err
	}
	custom, err := json.Marshal(customRelease{r.Channels, r.Commit, r.From, r.Infrastructure})
	if err != nil {
		return nil, err
	}
	raw := json.RawMessage(custom)
	return &metadata.TargetFiles{Length: r.Length, Hashes: metadata.Hashes{"sha256": sum}, Custom: &raw}, nil
}

// digestOf returns the digest of a target, which has that one hash.
func digestOf(t *metadata.TargetFiles) (releases.Digest, error) {
	if sum := t.Hashes["sha256"]; len(t.Hashes) == 1 && len(sum) == sha256.Size {
		return releases.DigestFromSum(sum), nil
	}
	return "", errors.New("needs exactly one hash, of sha256: clients choose among several")
}

// readReleases returns the releases that a file of the role lists.
func readReleases(targets map[string]*metadata.TargetFiles) (map[string]Release, error) {
	all := map[string]Release{}
	if len(targets) > MaxReleases {
		return nil, fmt.Errorf("lists %d releases, and may list %d: raise the floor", len(targets), MaxReleases)
	}
	for name, t := range targets {
		text, ok := strings.CutPrefix(name, releasePrefix)
		v, err := releases.ParseVersion(text)
		if !ok || err != nil {
			return nil, fmt.Errorf("target %.100q is not the name of a release, such as releases/2026.11.3", name)
		}
		r := Release{Version: v, Length: t.Length}
		if r.Digest, err = digestOf(t); err != nil {
			return nil, fmt.Errorf("target %s %w", name, err)
		}
		var custom customRelease
		if t.Custom == nil {
			return nil, fmt.Errorf("target %s does not say for which channels", name)
		}
		if err := json.Unmarshal(*t.Custom, &custom); err != nil {
			return nil, fmt.Errorf("target %s: its custom part can't be read: %w", name, err)
		}
		r.Channels, r.Commit, r.From, r.Infrastructure = custom.Channels, custom.Commit, custom.From,
			custom.Infrastructure
		all[text] = r
	}
	return all, nil
}

// Policy is what signers decide about all releases.
type Policy struct {
	Floor   releases.Version  // no release below it may run; zero: there is none
	Revoked map[string]string // why, by version
	Support Support           // who may ask for debug access
}

// policyField has the Policy in the targets file. Its values are texts: other readers keep them as they are.
const policyField = "x-sluice"

type policyFile struct {
	Floor   releases.Version  `json:"floor,omitzero"`
	Revoked map[string]string `json:"revoked,omitempty"`
	Support Support           `json:"support,omitempty"`
}

func readPolicy(unknown map[string]any) (Policy, error) {
	field, there := unknown[policyField]
	if !there {
		return Policy{}, nil
	}
	data, err := json.Marshal(field)
	if err != nil {
		return Policy{}, err
	}
	var p policyFile
	if err := json.Unmarshal(data, &p); err != nil {
		return Policy{}, fmt.Errorf("%s can't be read: %w", policyField, err)
	}
	for v := range p.Revoked {
		if _, err := releases.ParseVersion(v); err != nil {
			return Policy{}, fmt.Errorf("%s revokes %.100q: %w", policyField, v, err)
		}
	}
	if err := p.Support.validate(); err != nil {
		return Policy{}, fmt.Errorf("%s %w", policyField, err)
	}
	return Policy(p), nil
}

// field returns p as the targets file has it.
func (p Policy) field() (any, error) {
	data, err := json.Marshal(policyFile(p))
	if err != nil {
		return nil, err
	}
	var v any
	err = json.Unmarshal(data, &v)
	return v, err
}

// Refuses returns why no channel may run a version, whatever was signed about it; empty: the policy allows it.
func (p Policy) Refuses(v releases.Version) string {
	if why, revoked := p.Revoked[v.String()]; revoked {
		return "the signers revoked " + v.String() + ": " + why
	}
	if !p.Floor.IsZero() && v.Less(p.Floor) {
		return v.String() + " is below the signers' floor " + p.Floor.String()
	}
	return ""
}

// Refuses returns why a channel may not run a digest under the name of r; empty: the signers allow it.
func (r Release) Refuses(channel string, digest releases.Digest) string {
	switch {
	case r.Digest != digest:
		return fmt.Sprintf("the signers signed %s with digest %s, and this is %s", r.Version, r.Digest, digest)
	case !slices.Contains(r.Channels, channel):
		return fmt.Sprintf("the signers signed %s for %s, not for %s", r.Version, strings.Join(r.Channels, ", "), channel)
	}
	return ""
}
