package engine

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// packedHistory is a history as the cache file has it. What grows with every release and every promotion is in Packed:
// gob takes several times as long to read it. Text that comes more than once, such as versions and commits, is stored
// once.
type packedHistory struct {
	Rest   *plan.History // without what Packed has
	Packed []byte        // origins of releases, heads of channels, digests of releases' folders
	Texts  string        // what the references in Packed are to, one text after the other
}

func packHistory(h *plan.History, digests map[digestKey]releases.Digest) packedHistory {
	rest := *h
	rest.Releases, rest.Channels = nil, make(map[string]*plan.PastChannel, len(h.Channels))
	p := packer{known: map[string]int{}}
	p.number(len(h.Releases))
	for _, version := range slices.Sorted(maps.Keys(h.Releases)) {
		p.text(version)
		p.origin(h.Releases[version])
	}
	p.number(len(h.Channels))
	for _, name := range slices.Sorted(maps.Keys(h.Channels)) {
		past := *h.Channels[name]
		p.text(name)
		p.number(len(past.Heads))
		for i := range past.Heads {
			p.head(&past.Heads[i])
		}
		past.Heads, rest.Channels[name] = nil, &past
	}
	p.number(len(digests))
	for key, digest := range digests {
		p.texts(key.Version, key.Tree, string(digest))
	}
	lengths := binary.AppendUvarint(nil, uint64(len(p.lengths)))
	for _, n := range p.lengths {
		lengths = binary.AppendUvarint(lengths, uint64(n))
	}
	return packedHistory{Rest: &rest, Packed: append(lengths, p.body...), Texts: string(p.all)}
}

// unpack returns what was packed; ok is false if k is not what packHistory makes.
func (k *packedHistory) unpack() (h *plan.History, digests map[digestKey]releases.Digest, ok bool) {
	if k.Rest == nil {
		return nil, nil, false
	}
	u := unpacker{body: k.Packed}
	rest := k.Texts
	u.known = make([]string, u.count())
	for i := range u.known {
		n := u.number()
		if n > len(rest) {
			return nil, nil, false
		}
		u.known[i], rest = rest[:n], rest[n:]
	}
	h = k.Rest.MakeMaps()
	n := u.count()
	h.Releases = make(map[string]*plan.Origin, n)
	origins := make([]plan.Origin, n)
	for i := range origins {
		version := u.text()
		u.origin(&origins[i])
		h.Releases[version] = &origins[i]
	}
	for range u.count() {
		past := h.Channels[u.text()]
		heads := make([]plan.EffectiveHead, u.count())
		for i := range heads {
			u.head(&heads[i])
		}
		if past == nil {
			return nil, nil, false
		}
		if len(heads) > 0 {
			past.Heads = heads
		}
	}
	n = u.count()
	digests = make(map[digestKey]releases.Digest, n)
	for range n {
		key := digestKey{u.text(), u.text()}
		digests[key] = releases.Digest(u.text())
	}
	return h, digests, !u.damaged && len(u.body) == 0
}

// packer writes numbers, and texts as references.
type packer struct {
	body    []byte
	known   map[string]int // index of each text
	lengths []int          // of the texts
	all     []byte         // the texts
}

func (p *packer) number(n int) { p.body = binary.AppendUvarint(p.body, uint64(n)) }

func (p *packer) text(s string) {
	i, known := p.known[s]
	if !known {
		i = len(p.lengths)
		p.known[s], p.lengths, p.all = i, append(p.lengths, len(s)), append(p.all, s...)
	}
	p.number(i)
}

func (p *packer) texts(all ...string) {
	for _, s := range all {
		p.text(s)
	}
}

func (p *packer) list(all []string) {
	p.number(len(all))
	p.texts(all...)
}

func (p *packer) flags(all ...bool) {
	n := 0
	for i, set := range all {
		if set {
			n |= 1 << i
		}
	}
	p.number(n)
}

func (p *packer) instant(t time.Time) {
	text, err := t.MarshalBinary()
	if err != nil { // a zone that has no place in the format: the instant stays the same
		text, _ = t.UTC().MarshalBinary()
	}
	p.text(string(text))
}

func (p *packer) origin(o *plan.Origin) {
	p.texts(o.Commit, o.Tree, o.Unsigned, o.Edited)
	p.number(o.Order)
	p.list(o.Keys)
	p.number(len(o.Authors))
	for _, a := range o.Authors {
		p.texts(a.Name, a.Email)
	}
}

func (p *packer) head(h *plan.EffectiveHead) {
	p.texts(h.Release, h.Commit, string(h.Digest), string(h.Kind), h.Written, h.Replaces, h.Forward)
	p.body = binary.AppendVarint(p.body, h.Sequence)
	p.instant(h.Moved)
	p.flags(h.Hotfix, h.Finished, h.ReplacedFinished)
}

// unpacker reads what a packer wrote. What is not there reads as zero, and damaged says so.
type unpacker struct {
	body    []byte
	known   []string
	damaged bool
}

func (u *unpacker) number() int {
	n, size := binary.Uvarint(u.body)
	if size <= 0 || n > 1<<31-1 {
		u.body, u.damaged = nil, true
		return 0
	}
	u.body = u.body[size:]
	return int(n)
}

// count reads a number of things, each of which takes at least a byte.
func (u *unpacker) count() int {
	n := u.number()
	if n > len(u.body) {
		u.body, u.damaged = nil, true
		return 0
	}
	return n
}

func (u *unpacker) text() string {
	i := u.number()
	if i >= len(u.known) {
		u.damaged = true
		return ""
	}
	return u.known[i]
}

func (u *unpacker) list() []string {
	n := u.count()
	if n == 0 {
		return nil
	}
	all := make([]string, n)
	for i := range all {
		all[i] = u.text()
	}
	return all
}

func (u *unpacker) instant() (t time.Time) {
	if err := t.UnmarshalBinary([]byte(u.text())); err != nil {
		u.damaged = true
	}
	return t
}

func (u *unpacker) origin(o *plan.Origin) {
	o.Commit, o.Tree, o.Unsigned, o.Edited = u.text(), u.text(), u.text(), u.text()
	o.Order, o.Keys = u.number(), u.list()
	if n := u.count(); n > 0 {
		o.Authors = make([]releases.Person, n)
		for i := range o.Authors {
			o.Authors[i] = releases.Person{Name: u.text(), Email: u.text()}
		}
	}
}

func (u *unpacker) head(h *plan.EffectiveHead) {
	h.Head = channels.Head{Release: u.text(), Commit: u.text(), Digest: releases.Digest(u.text())}
	h.Kind, h.Written, h.Replaces, h.Forward = plan.Kind(u.text()), u.text(), u.text(), u.text()
	sequence, size := binary.Varint(u.body)
	if size <= 0 {
		u.body, u.damaged = nil, true
		return
	}
	h.Sequence, u.body = sequence, u.body[size:]
	h.Moved = u.instant()
	flags := u.number()
	h.Hotfix, h.Finished, h.ReplacedFinished = flags&1 != 0, flags&2 != 0, flags&4 != 0
}
