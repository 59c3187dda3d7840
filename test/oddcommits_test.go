package test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// oddRepository writes commits that git's own commands would not, straight into the objects of a shared repository.
type oddRepository struct {
	t     *testing.T
	dir   string
	store *objects.Store
}

func openOddRepository(t *testing.T, dir string) *oddRepository {
	t.Helper()
	store, err := objects.Open(filepath.Join(dir, "objects"), 256<<20)
	if err != nil {
		t.Fatal(err)
	}
	return &oddRepository{t: t, dir: dir, store: store}
}

func (o *oddRepository) write(kind objects.Kind, data []byte) objects.ID {
	o.t.Helper()
	made := objects.Make(kind, data)
	if err := o.store.Write([]objects.NewObject{made}); err != nil {
		o.t.Fatal(err)
	}
	return made.ID
}

func (o *oddRepository) blob(text string) objects.Entry {
	return objects.Entry{Mode: objects.ModeFile, ID: o.write(objects.BlobKind, []byte(text))}
}

// tree makes a folder of raw lines: see line.
func (o *oddRepository) tree(lines ...string) objects.Entry {
	return objects.Entry{Mode: objects.ModeTree, ID: o.write(objects.TreeKind, []byte(strings.Join(lines, "")))}
}

func line(mode, name string, id objects.ID) string { return mode + " " + name + "\x00" + string(id[:]) }

// folder makes a folder with one entry.
func (o *oddRepository) folder(name string, e objects.Entry) objects.Entry {
	e.Name = name
	return objects.Entry{Mode: objects.ModeTree, ID: o.write(objects.TreeKind, objects.EncodeTree([]objects.Entry{e}))}
}

// deep makes a file in n folders called d.
func (o *oddRepository) deep(n int) objects.Entry {
	e := o.blob("deep\n")
	for range n {
		e = o.folder("d", e)
	}
	return e
}

// crowd makes a folder of n entries that are all the same blob: too many for any folder that is read.
func (o *oddRepository) crowd(n int) objects.Entry {
	id := o.blob("x\n").ID
	var b bytes.Buffer
	for i := range n {
		b.WriteString(line("100644", fmt.Sprintf("e%06d", i), id))
	}
	return objects.Entry{Mode: objects.ModeTree, ID: o.write(objects.TreeKind, b.Bytes())}
}

func (o *oddRepository) read(kind objects.Kind, id objects.ID) []byte {
	o.t.Helper()
	got, data, err := o.store.Get(id)
	if err != nil || got != kind {
		o.t.Fatalf("%v is a %v: %v", id, got, err)
	}
	return data
}

func (o *oddRepository) tip() (objects.ID, *objects.Commit) {
	o.t.Helper()
	id, err := objects.ParseID(strings.TrimSpace(git(o.t, o.dir, "rev-parse", "main")))
	if err != nil {
		o.t.Fatal(err)
	}
	c, err := objects.ParseCommit(o.read(objects.CommitKind, id))
	if err != nil {
		o.t.Fatal(err)
	}
	return id, c
}

// at returns a tree's entry at a path; zero: none.
func (o *oddRepository) at(tree objects.ID, name string) objects.Entry {
	first, rest, more := strings.Cut(name, "/")
	e, ok, err := objects.Lookup(o.read(objects.TreeKind, tree), first)
	if err != nil || !ok {
		return objects.Entry{}
	}
	if more {
		return o.at(e.ID, rest)
	}
	return e
}

// put returns a tree with an entry put at a path; a zero entry removes what is there.
func (o *oddRepository) put(tree objects.ID, name string, put objects.Entry) objects.ID {
	first, rest, more := strings.Cut(name, "/")
	var entries []objects.Entry
	if !tree.IsZero() {
		var err error
		if entries, err = objects.ParseTree(o.read(objects.TreeKind, tree), 1<<20); err != nil {
			o.t.Fatal(err)
		}
	}
	if more {
		i := slices.IndexFunc(entries, func(e objects.Entry) bool { return e.Name == first })
		below := objects.ID{}
		if i >= 0 {
			below = entries[i].ID
		}
		put = objects.Entry{Mode: objects.ModeTree, ID: o.put(below, rest, put)}
	}
	entries = slices.DeleteFunc(entries, func(e objects.Entry) bool { return e.Name == first })
	if put.Name = first; !put.ID.IsZero() {
		entries = append(entries, put)
	}
	return o.write(objects.TreeKind, objects.EncodeTree(entries))
}

// rawCommit makes a commit with a header and a message as they are given.
func (o *oddRepository) rawCommit(tree objects.ID, parents []objects.ID, rest string) objects.ID {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %v\n", tree)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %v\n", p)
	}
	return o.write(objects.CommitKind, []byte(b.String()+rest))
}

const (
	bob      = "Bob <bob@example.com> 1790000000 +0000"
	ordinary = "author " + bob + "\ncommitter " + bob + "\n\nan odd one\n"
)

// moveTo pushes commits that build makes on the tip; the engine may push meanwhile.
func (o *oddRepository) moveTo(build func(tip objects.ID, tree objects.ID) objects.ID) {
	o.t.Helper()
	for range 100 {
		tip, c := o.tip()
		next := build(tip, c.Tree)
		if _, err := tryGit(o.t.Context(), o.dir, "update-ref", "refs/heads/main", next.String(),
			tip.String()); err == nil {
			return
		}
	}
	o.t.Fatal("never landed")
}

// oddCommit is one oddity: an entry at a path, or a way to make the commit.
type oddCommit struct {
	name  string
	path  string
	entry func(o *oddRepository, was objects.Entry) objects.Entry
	added string // the name of the line that entry adds to the folder at path; else entry replaces what is there
	make  func(o *oddRepository, tip, tree objects.ID) objects.ID
	fault string // the beginning of the path of a fault that status has; empty: nothing reads the oddity
}

// lineID is the object of a line that addLine adds.
func (o *oddRepository) lineID(mode string) objects.ID {
	id := o.blob("x\n").ID
	if mode == "40000" {
		id = o.folder("f", o.blob("x\n")).ID
	}
	return id
}

// addLine returns an entry maker that adds a raw line to the folder that is there.
func addLine(mode, name string) func(*oddRepository, objects.Entry) objects.Entry {
	return func(o *oddRepository, was objects.Entry) objects.Entry {
		raw := []byte{}
		if was.IsTree() {
			raw = o.read(objects.TreeKind, was.ID)
		}
		return o.tree(string(raw), line(mode, name, o.lineID(mode)))
	}
}

func constant(f func(*oddRepository) objects.Entry) func(*oddRepository, objects.Entry) objects.Entry {
	return func(o *oddRepository, _ objects.Entry) objects.Entry { return f(o) }
}

func text(s string) func(*oddRepository, objects.Entry) objects.Entry {
	return constant(func(o *oddRepository) objects.Entry { return o.blob(s) })
}

func linkTo(s string) func(*oddRepository, objects.Entry) objects.Entry {
	return constant(func(o *oddRepository) objects.Entry {
		return objects.Entry{Mode: objects.ModeSymlink, ID: o.blob(s).ID}
	})
}

func gitlink(*oddRepository, objects.Entry) objects.Entry {
	return objects.Entry{Mode: objects.ModeGitlink, ID: objects.ID{1, 2, 3}}
}

func header(rest string) func(*oddRepository, objects.ID, objects.ID) objects.ID {
	return func(o *oddRepository, tip, tree objects.ID) objects.ID {
		return o.rawCommit(tree, []objects.ID{tip}, rest)
	}
}

// oddCommits is the corpus.
func oddCommits() []oddCommit {
	who := "author " + bob + "\ncommitter " + bob + "\n"
	list := []oddCommit{
		// files and folders where others belong
		{name: "cell.yaml of Latin-1", path: "cells/c1/cell.yaml", entry: text("caf\xe9"), fault: "cells/c1/cell.yaml"},
		{name: "cell.yaml of 2 MiB", path: "cells/c1/cell.yaml", entry: text(strings.Repeat("# x\n", 1<<19)),
			fault: "cells/c1/cell.yaml"},
		{name: "cell.yaml as a folder", path: "cells/c1/cell.yaml", entry: addLine("100644", "f"),
			fault: "cells/c1"},
		{name: "cell.yaml as a link", path: "cells/c1/cell.yaml", entry: linkTo("../c2/cell.yaml"),
			fault: "cells/c1/cell.yaml"},
		{name: "identity.yaml with a mistake", path: "cells/c1/identity.yaml", entry: text("epoch: one\n"),
			fault: "cells/c1/identity.yaml"},
		{name: "identity.yaml as a submodule", path: "cells/c1/identity.yaml", entry: gitlink,
			fault: "cells/c1/identity.yaml"},
		{name: "identity.yaml as a folder", path: "cells/c1/identity.yaml", entry: addLine("100644", "f"),
			fault: "cells/c1/identity.yaml"},
		{name: "identity.yaml with a byte order mark", path: "cells/c1/identity.yaml", entry: text("\xff\xfee\x00"),
			fault: "cells/c1/identity.yaml"},
		{name: "identity.yaml empty", path: "cells/c1/identity.yaml", entry: text(""), fault: "cells/c1/identity.yaml"},
		{name: "identity.yaml gone", path: "cells/c1/identity.yaml",
			entry: constant(func(*oddRepository) objects.Entry { return objects.Entry{} }),
			fault: "cells/c1/identity.yaml"},
		{name: "a cell as a link", path: "cells/c1", entry: linkTo("c2"), fault: "cells/c1"},
		{name: "a cell as a submodule", path: "cells/c1", entry: gitlink, fault: "cells/c1"},
		{name: "a cell of 100,001 files", path: "cells/c1",
			entry: constant(func(o *oddRepository) objects.Entry { return o.crowd(100_001) }), fault: "cells/c1"},
		{name: "cells as a link", path: "cells", entry: linkTo("releases"), fault: "cells"},
		{name: "cells as a file", path: "cells", entry: text("x\n"), fault: "cells"},
		{name: "cells of 100,001 names", path: "cells",
			entry: constant(func(o *oddRepository) objects.Entry { return o.crowd(100_001) }), fault: "cells"},
		{name: "quarantine as a file", path: "quarantine", entry: text("x\n"), fault: "quarantine"},
		{name: "a deep folder in a cell", path: "cells/c1/x",
			entry: constant(func(o *oddRepository) objects.Entry { return o.deep(200) }), fault: "cells/c1/x"},
		{name: "a deep folder in a channel", path: "channels/other/x",
			entry: constant(func(o *oddRepository) objects.Entry { return o.deep(200) }), fault: "channels/other/x"},
		{name: "a deep folder in releases", path: "releases/9.9.9-deep",
			entry: constant(func(o *oddRepository) objects.Entry { return o.deep(200) }), fault: "releases/9.9.9-deep"},
		{name: "a deep folder anywhere", path: "deep",
			entry: constant(func(o *oddRepository) objects.Entry { return o.deep(1000) })},
		{name: "a channel as a link", path: "channels/other", entry: linkTo("staging"), fault: "channels/other"},
		{name: "a channel of 100,001 files", path: "channels/other",
			entry: constant(func(o *oddRepository) objects.Entry { return o.crowd(100_001) }), fault: "channels/other"},
		{name: "channel.yaml as a folder", path: "channels/other/channel.yaml", entry: addLine("100644", "f"),
			fault: "channels/other"},
		{name: "channel.yaml that refers to itself", path: "channels/other/channel.yaml",
			entry: text("a: &a [*a, *a]\n"), fault: "channels/other/channel.yaml"},
		{name: "head.yaml as a link", path: "channels/other/head.yaml", entry: linkTo("channel.yaml"),
			fault: "channels/other/head.yaml"},
		{name: "holds as a file", path: "channels/other/holds", entry: text("x\n"), fault: "channels/other/holds"},
		{name: "a hold with control characters", path: "channels/other/holds/a\x1b[2J.txt", entry: text("x\n"),
			fault: "channels/other/holds/"},
		{name: "a release as a link", path: "releases/8.0.0-link", entry: linkTo("1.0.0"),
			fault: "releases/8.0.0-link"},
		{name: "a release with a submodule", path: "releases/8.0.0-sub/x", entry: gitlink,
			fault: "releases/8.0.0-sub"},
		{name: "a release with a link", path: "releases/8.0.0-to/x", entry: linkTo("/etc/passwd"),
			fault: "releases/8.0.0-to"},
		{name: "a release of 100,001 files", path: "releases/8.0.0-crowd",
			entry: constant(func(o *oddRepository) objects.Entry { return o.crowd(100_001) }),
			fault: "releases/8.0.0-crowd"},
		{name: "a .gitmodules that fsck refuses", path: ".gitmodules",
			entry: text("[submodule \"x\"]\n\tpath = x\n\turl = -ufoo\n")},
		{name: ".gitmodules as a link", path: ".gitmodules", entry: linkTo("sluice.yaml")},
		// commits
		{name: "NUL in the message", make: header(who + "\nodd \x00 message\n")},
		{name: "NUL in the header", make: header("author B\x00b <b@x> 1 +0000\ncommitter " + bob + "\n\nodd\n")},
		{name: "no author", make: header("committer " + bob + "\n\nodd\n")},
		{name: "no author nor committer", make: header("\nodd\n")},
		{name: "no message", make: header(who)},
		{name: "two authors", make: header("author " + bob + "\n" + who + "\nodd\n")},
		{name: "author without an address", make: header("author Bob\ncommitter Bob\n\nodd\n")},
		{name: "author of control characters",
			make: header("author \x1b]0;x\x07 <\x9b@x> 1 +0000\ncommitter " + bob + "\n\nodd\n")},
		{name: "a date beyond all calendars",
			make: header("author B <b@x> 99999999999999999999 +0000\n" +
				"committer B <b@x> 99999999999999999999 +0000\n\nodd\n")},
		{name: "a date before 1970", make: header("author B <b@x> -1 +0000\ncommitter B <b@x> -1 +0000\n\nodd\n")},
		{name: "a zone that is none", make: header("author B <b@x> 1 +9999\ncommitter B <b@x> 1 zone\n\nodd\n")},
		{name: "an encoding of nobody", make: header(who + "encoding nothing-known\n\nodd \xff\xfe\n")},
		{name: "UTF-16 in the message", make: header(who + "\n\xff\xfeo\x00d\x00d\x00\n")},
		{name: "two signatures", make: header(who +
			"gpgsig -----BEGIN SSH SIGNATURE-----\n x\n -----END SSH SIGNATURE-----\n" +
			"gpgsig -----BEGIN SSH SIGNATURE-----\n y\n -----END SSH SIGNATURE-----\n\nodd\n")},
		{name: "a signature that ends in the middle",
			make: header(who + "gpgsig -----BEGIN SSH SIGNATURE-----\n\nodd\n")},
		{name: "headers that nobody knows",
			make: header(who + strings.Repeat("x-odd y\n continued\n", 5000) + "\nodd\n")},
		{name: "a message of 40 MiB", make: header(who + "\n" + strings.Repeat("odd\n", 10<<20))},
		{name: "65,536 co-authors",
			make: header(who + "\nodd\n\n" + strings.Repeat("Co-authored-by: x <x@y>\n", 1<<16))},
		{name: "trailers of the engine's", make: header(who + "\nodd\n\nDecision: sha256:00\nDecided-On: HEAD\n" +
			"Acknowledge-Divergence: \x00\nConfirm-Removal: everything\n")},
		{name: "a merge with itself", make: func(o *oddRepository, tip, tree objects.ID) objects.ID {
			return o.rawCommit(tree, []objects.ID{tip, tip}, ordinary)
		}},
		{name: "a merge of another root", make: func(o *oddRepository, tip, tree objects.ID) objects.ID {
			other := o.rawCommit(o.put(objects.ID{}, "else", o.blob("x\n")), nil, ordinary)
			return o.rawCommit(tree, []objects.ID{tip, other}, ordinary)
		}},
		{name: "an octopus of 40", make: func(o *oddRepository, tip, tree objects.ID) objects.ID {
			parents := []objects.ID{tip}
			for i := range 40 {
				parents = append(parents, o.rawCommit(tree, []objects.ID{tip}, ordinary+fmt.Sprint(i)))
			}
			return o.rawCommit(tree, parents, ordinary)
		}},
		{name: "an empty merge of an odd side", make: func(o *oddRepository, tip, tree objects.ID) objects.ID {
			side := o.rawCommit(o.put(tree, "cells", o.blob("x\n")), []objects.ID{tip}, "\n")
			return o.rawCommit(tree, []objects.ID{tip, side}, ordinary)
		}},
		{name: "a side that removes everything", make: func(o *oddRepository, tip, tree objects.ID) objects.ID {
			side := o.rawCommit(o.tree().ID, []objects.ID{tip}, ordinary)
			return o.rawCommit(tree, []objects.ID{tip, side}, ordinary)
		}},
	}
	for _, odd := range []string{`new\cell`, "caf\xe9", "../x", "/etc", ".GIT", "git~1", "a/b", "..", "con\x01trol"} {
		const mode = "40000"
		list = append(list,
			oddCommit{name: fmt.Sprintf("the name %q in cells", odd), path: "cells", entry: addLine(mode, odd),
				added: odd, fault: "cells/"},
			oddCommit{name: fmt.Sprintf("the name %q in the root", odd), path: ".", entry: addLine("100644", odd),
				added: odd},
			oddCommit{name: fmt.Sprintf("the name %q in a cell", odd), path: "cells/c1", entry: addLine("100644", odd),
				added: odd, fault: "cells/c1/"},
			oddCommit{name: fmt.Sprintf("the name %q in channels", odd), path: "channels", entry: addLine(mode, odd),
				added: odd, fault: "channels/"},
			oddCommit{name: fmt.Sprintf("the name %q in releases", odd), path: "releases", entry: addLine(mode, odd),
				added: odd, fault: "releases/"})
	}
	for _, mode := range []string{"100600", "100777", "0100644", "100000", "100664"} {
		list = append(list, oddCommit{name: "mode " + mode, path: "cells/c1", entry: addLine(mode, "zz"),
			added: "zz", fault: "cells/c1/zz"})
	}
	for _, twice := range []string{"c1", "c2"} {
		list = append(list, oddCommit{name: "the cell " + twice + " twice", path: "cells",
			entry: addLine("40000", twice),
			added: twice,
			fault: "cells/" + twice})
	}
	return append(list,
		oddCommit{name: "out of order", path: "cells", entry: addLine("40000", "0"), added: "0", fault: "cells/0"},
		oddCommit{name: "a file and a folder of one name", path: "cells", entry: addLine("100644", "c1"),
			added: "c1", fault: "cells/c1"})
}

// undo returns tree without the oddity.
func (o *oddRepository) undo(odd oddCommit, tree objects.ID, was objects.Entry) objects.ID {
	if odd.added == "" {
		return o.put(tree, odd.path, was)
	}
	now := objects.Entry{Mode: objects.ModeTree, ID: tree}
	if odd.path != "." {
		now = o.at(tree, odd.path)
	}
	entries, err := objects.ParseTree(o.read(objects.TreeKind, now.ID), 1<<20)
	if err != nil {
		o.t.Fatal(err)
	}
	lines := []objects.ID{o.lineID("40000"), o.lineID("100644")}
	entries = slices.DeleteFunc(entries, func(e objects.Entry) bool {
		return e.Name == odd.added && slices.Contains(lines, e.ID)
	})
	now.ID = o.write(objects.TreeKind, objects.EncodeTree(entries))
	if odd.path == "." {
		return now.ID
	}
	return o.put(tree, odd.path, now)
}

// R47, R48: whatever a commit contains, releases are promoted and cells revoked in time, every oddity that is read is a
// fault of its path, and no cell is lost.
func TestOddCommitsStopNothing(t *testing.T) {
	corpus := oddCommits()
	if len(corpus) < 60 {
		t.Fatalf("only %d odd commits", len(corpus))
	}
	const policy = "apiVersion: sluice/v1\nkind: Channel\n"
	cellNames := []string{}
	w := newWorld(t, func(files map[string]string) {
		clear(files)
		files["sluice.yaml"] = "apiVersion: sluice/v1\nkind: Pipeline\n"
		files["channels/staging/channel.yaml"] = policy // without cells: a head settles at once
		files["channels/other/channel.yaml"] = policy + "promote: manual\n"
		files["channels/other/holds/x.yaml"] = "apiVersion: sluice/v1\nkind: Hold\nreason: a fixture\n"
		for i := range 20 {
			name := fmt.Sprintf("c%d", i+1)
			cellNames = append(cellNames, name)
			files["cells/"+name+"/cell.yaml"] = "apiVersion: sluice/v1\nkind: Cell\nchannel: other\n"
			files["cells/"+name+"/identity.yaml"] = fmt.Sprintf("apiVersion: sluice/v1\nkind: Identity\n"+
				"epoch: 1\nserial: 1\npublicKey: ed25519:key%d\n", i)
		}
	})
	w.server.start()
	w.awaitFirstRead()
	o := openOddRepository(t, w.repo)
	revoked := map[string]bool{}
	slowest := time.Duration(0)
	for i, odd := range corpus {
		version := fmt.Sprintf("1.%d.0", i)
		var victim string
		if n := len(cellNames) - 1 - i/8; i%8 == 0 && n > 2 {
			victim = cellNames[n]
			revoked[victim] = true
		}
		var was objects.Entry
		began := time.Now()
		o.moveTo(func(tip, tree objects.ID) objects.ID { // the oddity, and on it a release, and perhaps a revocation
			for name, data := range releaseFiles(version) {
				tree = o.put(tree, name, o.blob(string(data)))
			}
			if victim != "" {
				at := "cells/" + victim + "/identity.yaml"
				tree = o.put(tree, at, o.blob(string(o.read(objects.BlobKind, o.at(tree, at).ID))+"revoked: true\n"))
			}
			if odd.make == nil && odd.path != "." {
				was = o.at(tree, odd.path)
			}
			cut := o.rawCommit(tree, []objects.ID{tip}, "author "+bob+"\ncommitter "+bob+"\n\ncut "+version+"\n")
			switch {
			case odd.make != nil:
				return odd.make(o, cut, tree)
			case odd.path == ".":
				root := objects.Entry{Mode: objects.ModeTree, ID: tree}
				return o.rawCommit(odd.entry(o, root).ID, []objects.ID{cut}, ordinary)
			}
			return o.rawCommit(o.put(tree, odd.path, odd.entry(o, was)), []objects.ID{cut}, ordinary)
		})
		w.eventually(func() (string, bool) {
			s := w.status()
			var wrong []string
			if h := headOf(s, "staging"); h != version {
				wrong = append(wrong, "staging is at "+h+", not "+version)
			}
			found := odd.fault == "" || slices.ContainsFunc(s.Faults, func(f releases.Fault) bool {
				return strings.HasPrefix(f.File, odd.fault)
			})
			if !found {
				wrong = append(wrong, fmt.Sprintf("no fault at %s: %v", odd.fault, s.Faults))
			}
			if len(s.Cells) < len(cellNames) {
				wrong = append(wrong, fmt.Sprintf("%d cells are left", len(s.Cells)))
			}
			for _, c := range s.Cells {
				if out := c.Condition == "shut-out"; slices.Contains(cellNames, c.Name) && out != revoked[c.Name] {
					wrong = append(wrong, fmt.Sprintf("%s is %s", c.Name, c.Condition))
				}
			}
			return odd.name + ": " + strings.Join(wrong, "; "), len(wrong) == 0
		})
		slowest = max(slowest, time.Since(began))
		o.moveTo(func(tip, tree objects.ID) objects.ID { // and back
			if odd.make == nil {
				tree = o.undo(odd, tree, was)
			}
			return o.rawCommit(tree, []objects.ID{tip}, ordinary)
		})
	}
	t.Logf("%d odd commits; the slowest took %v", len(corpus), slowest)
}

func headOf(s view.Status, channel string) string {
	for _, c := range s.Channels {
		if c.Name == channel {
			return c.Release
		}
	}
	return ""
}
