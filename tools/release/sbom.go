package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

const (
	homepage    = "https://github.com/sluice-cd/sluice"
	noAssertion = "NOASSERTION"
)

// writeSBOM writes the modules that a binary is linked from, as the toolchain listed them in it, beside the binary: an
// SPDX 2.3 document.
func writeSBOM(b binary) error {
	doc := describe(b)
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("write the SBOM of %s: %w", b.path, err)
	}
	return os.WriteFile(sbomPath(b), append(text, '\n'), 0o644)
}

func sbomPath(b binary) string { return b.path + ".spdx.json" }

func describe(b binary) spdx.Document {
	name := filepath.Base(b.path)
	main := describeModule(b.info.Main, "APPLICATION")
	main.PackageFileName = name
	main.PackageDownloadLocation = "git+" + homepage + "@" + b.commit
	main.PackageLicenseDeclared = "Apache-2.0"
	main.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: b.sum}}
	std := describeModule(debug.Module{Path: "stdlib", Version: strings.TrimPrefix(b.info.GoVersion, "go")}, "LIBRARY")
	std.PackageLicenseDeclared = "BSD-3-Clause"
	packages := []*spdx.Package{main, std}
	for _, module := range b.info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		packages = append(packages, describeModule(*module, "LIBRARY"))
	}
	mainID := common.MakeDocElementID("", string(main.PackageSPDXIdentifier))
	relationships := []*spdx.Relationship{
		{RefA: common.MakeDocElementID("", "DOCUMENT"), RefB: mainID, Relationship: "DESCRIBES"}}
	for _, p := range packages[1:] {
		relationships = append(relationships, &spdx.Relationship{RefA: mainID, Relationship: "DEPENDS_ON",
			RefB: common.MakeDocElementID("", string(p.PackageSPDXIdentifier))})
	}
	return spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: homepage + "/sbom/" + name + "/" + b.sum,
		CreationInfo: &spdx.CreationInfo{Created: b.stamp(),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "sluice-release"}}},
		Packages: packages, Relationships: relationships,
	}
}

func describeModule(m debug.Module, purpose string) *spdx.Package {
	p := &spdx.Package{
		PackageName: m.Path, PackageVersion: m.Version, PackageSPDXIdentifier: elementID(m.Path + "-" + m.Version),
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion,
		PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion, PrimaryPackagePurpose: purpose,
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL,
			Locator: "pkg:golang/" + m.Path + "@" + url.QueryEscape(m.Version)}},
	}
	if m.Sum != "" {
		p.PackageComment = "go.sum: " + m.Sum
	}
	return p
}

// elementID returns an SPDX identifier, which has only letters, digits, dots and hyphens.
func elementID(name string) common.ElementID {
	return common.ElementID(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, name))
}
