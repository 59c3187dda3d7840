package trusttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
)

// Case is a repository as a client meets it.
type Case struct {
	Name  string
	Root  []byte         // what the client was given out of band
	Told  []trust.Bundle // one after another; the verdict is about the last one
	Valid bool           // whether a client of TUF takes the last one
	Flags bool           // signers sign flags too, and the verdict is about FlagTarget as well
	// Refused by this program alone, although a client of TUF may take it: it asks for more.
	Stricter bool
}

// attack changes a repository.
type attack struct {
	name     string
	known    bool // the client has seen the repository as it was before
	flags    bool // signers sign flags too
	change   func(*Repository)
	valid    bool
	stricter bool
}

// Roles returns every role of a Repository.
func Roles() []string {
	return []string{trust.RoleRoot, trust.RoleTimestamp, trust.RoleSnapshot, trust.RoleTargets, trust.RoleReleases,
		head}
}

// Corpus returns repositories with each attack on each role, and some that are as they should be.
func Corpus(now time.Time) ([]Case, error) {
	all := slices.Concat(wellFormed(), mixed(), special(), strict(), onFlags())
	for _, role := range append(Roles(), trust.RoleFlags) {
		all = append(all, onRole(role)...)
	}
	var cases []Case
	for _, a := range all {
		c, err := a.play(now)
		if err != nil {
			return nil, fmt.Errorf("case %s: %w", a.name, err)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

func (a attack) play(now time.Time) (Case, error) {
	c := Case{Name: a.name, Valid: a.valid, Stricter: a.stricter, Flags: a.flags}
	r, err := New(now)
	if err != nil {
		return c, err
	}
	if a.flags {
		r.SignFlags(Part())
	}
	before, err := r.Bundle()
	if err != nil {
		return c, err
	}
	c.Root = before.Roots[0]
	if a.known {
		c.Told = append(c.Told, before)
		r.Snapshot.Signed["version"], r.Timestamp.Signed["version"] = FirstVersion+1, FirstVersion+1
	}
	delete(r.Snapshot.Signed, "meta")
	delete(r.Timestamp.Signed, "meta")
	a.change(r)
	after, err := r.Bundle()
	c.Told = append(c.Told, after)
	return c, err
}

// isOffline reports whether people sign a role.
func isOffline(role string) bool {
	return slices.Contains([]string{trust.RoleRoot, trust.RoleTargets, trust.RoleReleases, trust.RoleFlags}, role)
}

// touch returns a role's file, to be changed. Of the root it is the next one, for the first is the client's own.
func (r *Repository) touch(role string) *Doc {
	if role == trust.RoleRoot {
		return r.Rotate()
	}
	return r.doc(role)
}

// onRole returns the attacks on one role's file, by one who has the keys of all others.
func onRole(role string) (all []attack) {
	add := func(name string, change func(d *Doc)) {
		all = append(all, attack{name: role + "/" + name, flags: role == trust.RoleFlags,
			change: func(r *Repository) { change(r.touch(role)) }})
	}
	add("unsigned", func(d *Doc) { d.By = nil })
	add("signed by a stranger", func(d *Doc) { d.By = []string{"mallory", "eve"} })
	add("a stranger's signature in a signer's name", func(d *Doc) {
		by := d.By
		d.By = []string{"mallory", "eve"}
		d.Change = func(data []byte) []byte {
			text := string(data)
			for i, name := range d.By[:len(by)] {
				text = strings.ReplaceAll(text, KeyID(name), KeyID(by[i]))
			}
			return []byte(text)
		}
	})
	add("changed after it was signed", func(d *Doc) {
		d.Change = func(data []byte) []byte { return bytes.Replace(data, []byte(`"1.0.31"`), []byte(`"1.0.30"`), 1) }
	})
	add("cut short", func(d *Doc) { d.Change = func(data []byte) []byte { return data[:len(data)/2] } })
	add("empty", func(d *Doc) { d.Change = func([]byte) []byte { return []byte{} } })
	add("of another type", func(d *Doc) { d.Signed["_type"] = "mirrors" })
	add("of spec_version 2", func(d *Doc) { d.Signed["spec_version"] = "2.0.0" })
	add("without signatures", func(d *Doc) {
		d.Change = func(data []byte) []byte { return bytes.Replace(data, []byte(`"signatures"`), []byte(`"signature"`), 1) }
	})
	add("signed twice by one key", func(d *Doc) { d.By = append(slices.Clone(d.By), d.By[0]) })
	add("expired", func(d *Doc) { d.Signed["expires"] = "2020-01-01T00:00:00Z" })
	if isOffline(role) {
		add("signed by one of two", func(d *Doc) { d.By = []string{"ada"} })
		add("signed by the engine", func(d *Doc) { d.By = []string{"engine", "ada"} })
	} else {
		add("signed by people", func(d *Doc) { d.By = []string{"ada", "grace"} })
	}
	if role != trust.RoleRoot {
		all = append(all, attack{name: role + "/missing", flags: role == trust.RoleFlags, change: func(r *Repository) {
			r.doc(role).Change = func([]byte) []byte { return nil }
		}})
	}
	if role != trust.RoleRoot && role != trust.RoleTimestamp {
		all = append(all, attack{name: role + "/another version than was announced", flags: role == trust.RoleFlags,
			change: func(r *Repository) {
				meta := JSON{}
				for name, d := range r.Roles {
					meta[name+".json"] = JSON{"version": d.Signed["version"]}
				}
				if role == trust.RoleSnapshot {
					r.Timestamp.Signed["meta"] = JSON{"snapshot.json": JSON{"version": FirstVersion + 4}}
				} else {
					meta[role+".json"] = JSON{"version": FirstVersion + 4}
				}
				r.Snapshot.Signed["meta"] = meta
			}})
	}
	return all
}

// Part is what signers sign of flags. It has the release's bytes: a client that finds both finds one digest.
func Part() trust.Part {
	return trust.Part{Name: "flags/new-editor", SHA256: Digest().Hex(), Length: int64(len(content)),
		Custom: json.RawMessage("{}")}
}

// FlagTarget is the name of the target of Part.
func FlagTarget() string { return Part().Name + "/" + Part().SHA256 }

// Allows reports whether the flags of a case may be taken, by what was verified.
func (c *Case) Allows(t *trust.Trusted) error {
	switch {
	case t.FlagsSigned != c.Flags:
		return fmt.Errorf("flags are signed: %t", t.FlagsSigned)
	case t.FlagsFault != nil:
		return t.FlagsFault
	case c.Flags && !slices.ContainsFunc(t.Parts, func(p trust.Part) bool { return p.Name == Part().Name }):
		return errors.New("the part is not signed")
	}
	return nil
}

// onFlags are repositories whose signers sign flags too.
func onFlags() []attack {
	const flags = trust.RoleFlags
	return []attack{
		{name: "flags as they should be", flags: true, valid: true, change: func(*Repository) {}},
		{name: "flags known before, signed again", flags: true, known: true, valid: true, change: func(r *Repository) {
			r.Roles[flags].Signed["version"] = FirstVersion + 1
		}},
		{name: "a snapshot that forgets flags", flags: true, change: func(r *Repository) {
			meta := JSON{}
			for name, d := range r.Roles {
				meta[name+".json"] = JSON{"version": d.Signed["version"]}
			}
			delete(meta, flags+".json")
			r.Snapshot.Signed["meta"] = meta
		}},
		{name: "a newer snapshot that forgets flags", flags: true, known: true, change: func(r *Repository) {
			delete(r.Roles, flags)
		}},
		{name: "a newer snapshot of older flags", flags: true, known: true, change: func(r *Repository) {
			r.Roles[flags].Signed["version"] = FirstVersion - 1
		}},
		{name: "targets with threshold 0 for flags", flags: true, change: func(r *Repository) {
			delegation(r, flags)["threshold"] = 0
		}},
		{name: "targets with a key twice for flags", flags: true, change: func(r *Repository) {
			delegation(r, flags)["keyids"] = []any{KeyID("ada"), KeyID("ada")}
			r.Roles[flags].By = []string{"ada"}
		}},
		{name: "flags of a signer of releases alone", flags: true, change: func(r *Repository) {
			r.Roles[flags].By = []string{"ada", "linus"}
		}},
		{name: "flags that do not list the part", flags: true, change: func(r *Repository) { r.SignFlags() }},
		{name: "the part listed among releases", flags: true, change: func(r *Repository) {
			list := r.targets(trust.RoleReleases)
			list[FlagTarget()] = r.targets(flags)[FlagTarget()]
			r.SignFlags()
		}},
		{name: "a part with two hashes", flags: true, valid: true, stricter: true, change: func(r *Repository) {
			part := r.targets(flags)[FlagTarget()].(JSON)
			part["hashes"].(JSON)["sha512"] = strings.Repeat("0", 128)
		}},
		{name: "one version of flags, other content", flags: true, known: true, valid: true, stricter: true,
			change: func(r *Repository) {
				r.Bare = true
				r.Roles[flags].Signed["x-more"] = "1"
			}},
	}
}

func wellFormed() []attack {
	return []attack{
		{name: "as it should be", valid: true, change: func(*Repository) {}},
		{name: "known before, signed again", known: true, valid: true, change: func(*Repository) {}},
		{name: "a snapshot without hashes", valid: true, change: func(r *Repository) { r.Bare = true }},
		{name: "fields that nobody knows", valid: true, change: func(r *Repository) {
			for _, role := range Roles()[1:] {
				r.doc(role).Signed["x-unknown"] = JSON{"a": []any{"b", 7, true}}
			}
		}},
		{name: "three signatures of two", valid: true, change: func(r *Repository) {
			r.Roles[trust.RoleReleases].By = []string{"ada", "grace", "linus"}
		}},
		{name: "a stranger's signature beside enough others", valid: true, change: func(r *Repository) {
			r.Roles[trust.RoleReleases].By = []string{"ada", "grace", "mallory"}
		}},
		{name: "a root after the first", valid: true, change: func(r *Repository) { r.Rotate() }},
		{name: "a root that expired, and one after it", valid: true, change: func(r *Repository) {
			r.Rotate().Signed["expires"] = "2020-01-01T00:00:00Z"
			r.Rotate().Signed["expires"] = expiry(r.Now.Add(time.Hour))
		}},
		{name: "a signer removed by the next root", valid: true, change: func(r *Repository) {
			removeSigner(r.Rotate(), "linus")
		}},
		{name: "another online key by the next root", known: true, valid: true, change: func(r *Repository) {
			replaceOnline(r)
			r.Snapshot.By, r.Timestamp.By = []string{"engine-2"}, []string{"engine-2"}
		}},
		{name: "three hundred roots", valid: true, change: func(r *Repository) {
			for range 300 {
				r.Rotate()
			}
		}},
	}
}

func roleOf(root *Doc, role string) JSON { return root.Signed["roles"].(JSON)[role].(JSON) }

func removeSigner(root *Doc, name string) {
	for _, role := range []string{"root", "targets"} {
		r := roleOf(root, role)
		r["keyids"] = slices.DeleteFunc(r["keyids"].([]any), func(id any) bool { return id == KeyID(name) })
	}
}

func replaceOnline(r *Repository) {
	root := r.Rotate()
	root.Signed["keys"].(JSON)[KeyID("engine-2")] = JSON{"keytype": "ed25519", "scheme": "ed25519",
		"keyval": JSON{"public": fmt.Sprintf("%x", []byte(Public("engine-2").Public))}}
	for _, role := range []string{"snapshot", "timestamp"} {
		roleOf(root, role)["keyids"] = []any{KeyID("engine-2")}
	}
}

// delegation returns what targets says of a role.
func delegation(r *Repository, role string) JSON {
	for _, d := range r.Roles[trust.RoleTargets].Signed["delegations"].(JSON)["roles"].([]any) {
		if d := d.(JSON); d["name"] == role {
			return d
		}
	}
	return nil
}

// targets returns what a role's file lists.
func (r *Repository) targets(role string) JSON { return r.Roles[role].Signed["targets"].(JSON) }

// release returns what the signers say of the release.
func (r *Repository) release() JSON { return r.targets(trust.RoleReleases)["releases/"+Version].(JSON) }

func refuse(name string, known bool, change func(*Repository)) attack {
	return attack{name: name, known: known, change: change}
}

// mixed are attacks on how the online files fit together.
func mixed() []attack {
	return []attack{
		refuse("an older timestamp", true, func(r *Repository) {
			r.Timestamp.Signed["version"] = FirstVersion - 1
		}),
		refuse("a newer timestamp of an older snapshot", true, func(r *Repository) {
			r.Snapshot.Signed["version"] = FirstVersion - 1
		}),
		refuse("a snapshot that the timestamp does not name", false, func(r *Repository) {
			r.Timestamp.Signed["meta"] = JSON{"snapshot.json": JSON{"version": FirstVersion + 2}}
		}),
		refuse("a snapshot of other bytes than the timestamp names", false, func(r *Repository) {
			r.Timestamp.Signed["meta"] = JSON{"snapshot.json": JSON{"version": FirstVersion,
				"hashes": JSON{"sha256": strings.Repeat("0", 64)}}}
		}),
		refuse("a snapshot that forgets releases", false, func(r *Repository) {
			r.Snapshot.Signed["meta"] = JSON{"targets.json": JSON{"version": FirstVersion},
				head + ".json": JSON{"version": FirstVersion}}
		}),
		refuse("a snapshot that forgets the head", false, func(r *Repository) {
			r.Snapshot.Signed["meta"] = JSON{"targets.json": JSON{"version": FirstVersion},
				"releases.json": JSON{"version": FirstVersion}}
		}),
		refuse("a newer snapshot that forgets a file", true, func(r *Repository) {
			delete(r.Roles, head)
		}),
		refuse("a newer snapshot of older releases", true, func(r *Repository) {
			r.Roles[trust.RoleReleases].Signed["version"] = FirstVersion - 1
		}),
	}
}

// special are attacks on what the signers' files say of others.
func special() []attack {
	return []attack{
		refuse("root 3 told in the place of root 2", false, func(r *Repository) {
			r.Rotate().Change = func([]byte) []byte { return nil }
			r.Rotate()
		}),
		refuse("a root that calls itself 3 in the place of 2", false, func(r *Repository) {
			r.Rotate().Signed["version"] = 3
		}),
		refuse("a root signed by its own new keys alone", false, func(r *Repository) {
			root := r.Rotate()
			for _, name := range []string{"mallory", "eve"} {
				root.Signed["keys"].(JSON)[KeyID(name)] = JSON{"keytype": "ed25519", "scheme": "ed25519",
					"keyval": JSON{"public": fmt.Sprintf("%x", []byte(Public(name).Public))}}
			}
			roleOf(root, "root")["keyids"] = []any{KeyID("mallory"), KeyID("eve")}
			root.By = []string{"mallory", "eve"}
		}),
		refuse("a root signed by the old keys alone", false, func(r *Repository) {
			removeSigner(r.Rotate(), "ada")
		}),
		refuse("a root with threshold 0 for releases' delegator", false, func(r *Repository) {
			roleOf(r.Rotate(), "targets")["threshold"] = 0
		}),
		refuse("a root with threshold 0 for itself", false, func(r *Repository) {
			roleOf(r.Rotate(), "root")["threshold"] = 0
		}),
		refuse("a root with a key twice", false, func(r *Repository) {
			roleOf(r.Rotate(), "targets")["keyids"] = []any{KeyID("ada"), KeyID("ada")}
		}),
		refuse("targets with threshold 0 for releases", false, func(r *Repository) {
			delegation(r, trust.RoleReleases)["threshold"] = 0
		}),
		refuse("targets with a key twice for releases", false, func(r *Repository) {
			delegation(r, trust.RoleReleases)["keyids"] = []any{KeyID("ada"), KeyID("ada")}
			r.Roles[trust.RoleReleases].By = []string{"ada"}
		}),
		refuse("targets of a signer whom the next root removes", false, func(r *Repository) {
			root := r.Rotate()
			removeSigner(root, "grace")
			root.By = []string{"ada", "grace", "linus"}
		}),
		refuse("releases that do not list the release", false, func(r *Repository) {
			r.Roles[trust.RoleReleases].Signed["targets"] = JSON{}
		}),
		refuse("a head that names a release by another name", false, func(r *Repository) {
			targets := r.targets(head)
			targets["channels/other/release"] = targets[trust.HeadTarget(Channel)]
			delete(targets, trust.HeadTarget(Channel))
		}),
		refuse("the release listed by the engine", false, func(r *Repository) {
			r.targets(head)["releases/"+Version] = r.release()
			r.Roles[trust.RoleReleases].Signed["targets"] = JSON{}
		}),
		refuse("a target without hashes", false, func(r *Repository) {
			r.release()["hashes"] = JSON{}
		}),
		refuse("a head and releases of different bytes", false, func(r *Repository) {
			r.targets(head)[trust.HeadTarget(Channel)].(JSON)["hashes"] = JSON{"sha256": strings.Repeat("a", 64)}
		}),
	}
}

// strict are repositories that clients of TUF take, and this program does not.
func strict() []attack {
	refuse := func(name string, known bool, change func(*Repository)) attack {
		return attack{name: name, known: known, change: change, valid: true, stricter: true}
	}
	return []attack{
		refuse("a release for another channel", false, func(r *Repository) {
			r.release()["custom"] = JSON{"channels": []any{"other"}}
		}),
		refuse("a revoked release", false, func(r *Repository) {
			r.Roles[trust.RoleTargets].Signed["x-sluice"] = JSON{"revoked": JSON{Version: "loses data"}}
		}),
		refuse("a release below the floor", false, func(r *Repository) {
			r.Roles[trust.RoleTargets].Signed["x-sluice"] = JSON{"floor": "1.2.0"}
		}),
		refuse("a target with two hashes", false, func(r *Repository) {
			r.release()["hashes"].(JSON)["sha512"] = strings.Repeat("0", 128)
		}),
		refuse("one version of the timestamp, other content", true, func(r *Repository) {
			r.Snapshot.Signed["version"], r.Timestamp.Signed["version"] = FirstVersion, FirstVersion
			r.Timestamp.Signed["expires"] = expiry(r.Now.Add(48 * time.Hour))
		}),
		refuse("one version of releases, other content", true, func(r *Repository) {
			r.Bare = true
			r.Roles[trust.RoleReleases].Signed["x-more"] = "1"
		}),
		refuse("one key under two ids", false, func(r *Repository) {
			keys := r.Roles[trust.RoleTargets].Signed["delegations"].(JSON)["keys"].(JSON)
			keys["alias"] = keys[KeyID("ada")]
			delegation(r, trust.RoleReleases)["keyids"] = []any{KeyID("ada"), "alias"}
			r.Roles[trust.RoleReleases].By = []string{"ada"}
			r.Roles[trust.RoleReleases].Change = func(data []byte) []byte {
				var file struct {
					Signed     json.RawMessage `json:"signed"`
					Signatures []JSON          `json:"signatures"`
				}
				if err := json.Unmarshal(data, &file); err != nil {
					return nil
				}
				file.Signatures = append(file.Signatures, JSON{"keyid": "alias", "sig": file.Signatures[0]["sig"]})
				data, err := json.Marshal(file)
				if err != nil {
					return nil
				}
				return data
			}
		}),
		refuse("a null", false, func(r *Repository) { r.Roles[trust.RoleTargets].Signed["x-null"] = nil }),
	}
}
