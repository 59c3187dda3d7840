package template

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// VersionResource is the logical name of the SSM parameter that says which update a cell has.
const VersionResource = "InfrastructureVersion"

// checkRules checks our own rules. A fault begins with the rule's name.
func (c *checker) checkRules(number int, last bool) {
	if c.transformed || c.callsMacro(c.root) {
		c.fault(manifest.Forbidden, c.root, "unchecked: the template uses a macro: what comes of it can't be checked here")
	}
	for _, r := range c.sorted() {
		switch {
		case r.kind == "AWS::CloudFormation::Stack", r.kind == "AWS::CloudFormation::CustomResource",
			r.kind != "" && !strings.HasPrefix(r.kind, "AWS::"), strings.HasSuffix(r.kind, "::MODULE"):
			c.fault(manifest.Forbidden, r.node, "unchecked: %s is %s: what it does can't be checked here", r.name, r.kind)
		}
		c.checkIngress(r)
		c.checkTrust(r)
		c.checkPolicies(r)
	}
	c.checkVersion(number, last)
	for name, n := range pairs(field(c.root, "Parameters")) {
		if text, ok := literal(field(n, "Description")); !ok || strings.TrimSpace(text) == "" {
			c.fault(manifest.Missing, name, "described: parameter %s has no Description: the customer fills it in",
				name.Value)
		}
	}
}

// callsMacro reports whether a node, or anything below it, is made by a macro.
func (c *checker) callsMacro(n *yaml.Node) bool {
	name, _ := intrinsic(n)
	if name == "Fn::Transform" || strings.HasPrefix(name, "Fn::ForEach") {
		return true
	}
	for key := range pairs(n) {
		if key.Value == "Fn::Transform" || strings.HasPrefix(key.Value, "Fn::ForEach") {
			return true
		}
	}
	return slices.ContainsFunc(n.Content, c.callsMacro)
}

// checkIngress is the rule no-ingress: nothing from outside may open a connection.
func (c *checker) checkIngress(r *resource) {
	const rule = "no-ingress: "
	switch r.kind {
	case "AWS::EC2::SecurityGroup":
		for _, ingress := range items(field(r.properties, "SecurityGroupIngress")) {
			c.checkSource(ingress, r.name)
		}
	case "AWS::EC2::SecurityGroupIngress":
		c.checkSource(r.properties, r.name)
	case "AWS::EKS::Cluster":
		network := field(r.properties, "ResourcesVpcConfig")
		if text, _ := literal(field(network, "EndpointPublicAccess")); !strings.EqualFold(text, "false") {
			c.fault(manifest.Forbidden, r.node, rule+"%s: EndpointPublicAccess has to be false; it is true by default",
				r.name)
		}
	case "AWS::ElasticLoadBalancingV2::LoadBalancer":
		if text, _ := literal(field(r.properties, "Scheme")); text != "internal" {
			c.fault(manifest.Forbidden, r.node, rule+"%s: Scheme has to be internal; it is internet-facing by default",
				r.name)
		}
	case "AWS::EC2::Subnet":
		if n := field(r.properties, "MapPublicIpOnLaunch"); n != nil {
			if text, _ := literal(n); !strings.EqualFold(text, "false") {
				c.fault(manifest.Forbidden, n, rule+"%s: MapPublicIpOnLaunch gives machines public addresses", r.name)
			}
		}
	}
}

// checkSource checks where an inbound rule lets connections from: a security group or the VPC of this template, or a
// private range.
func (c *checker) checkSource(n *yaml.Node, name string) {
	const rule = "no-ingress: "
	if n == nil || c.isNoValue(n) {
		return
	}
	said := false
	for _, key := range []string{"SourcePrefixListId", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId"} {
		if of := field(n, key); of != nil {
			said = true
			c.fault(manifest.Forbidden, of, rule+"%s: %s may name others: give SourceSecurityGroupId", name, key)
		}
	}
	for _, group := range items(field(n, "SourceSecurityGroupId")) {
		if said = true; c.ownResource(group) == nil {
			c.fault(manifest.Forbidden, group, rule+"%s lets a security group in that is not of this template", name)
		}
	}
	for _, cidr := range append(items(field(n, "CidrIp")), items(field(n, "CidrIpv6"))...) {
		said = true
		text, ok := literal(cidr)
		prefix, err := netip.ParsePrefix(text)
		own := c.ownResource(cidr)
		if ok && (err != nil || !isPrivate(prefix)) || !ok && (own == nil || own.kind != "AWS::EC2::VPC") {
			c.fault(manifest.Forbidden, cidr, rule+"%s lets addresses in that are neither private nor the VPC's: give "+
				"!GetAtt VPC.CidrBlock, or a security group", name)
		}
	}
	if !said {
		c.fault(manifest.Forbidden, n, rule+"%s does not say whom it lets in", name)
	}
}

func isPrivate(p netip.Prefix) bool {
	for _, text := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} {
		private := netip.MustParsePrefix(text)
		if private.Contains(p.Addr()) && p.Bits() >= private.Bits() {
			return true
		}
	}
	return false
}

func (c *checker) isNoValue(n *yaml.Node) bool {
	name, argument := intrinsic(n)
	return name == "Ref" && argument.Value == "AWS::NoValue"
}

// ownResource returns the resource of the template that a node refers to; nil: it refers to something else.
func (c *checker) ownResource(n *yaml.Node) *resource {
	name, argument := intrinsic(n)
	switch name {
	case "Ref":
		return c.resources[argument.Value]
	case "Fn::GetAtt":
		if argument.Kind == yaml.SequenceNode && len(argument.Content) > 0 {
			return c.resources[argument.Content[0].Value]
		}
		of, _, _ := strings.Cut(argument.Value, ".")
		return c.resources[of]
	}
	return nil
}

// checkTrust is the rules no-wildcard-trust and no-outside-principal: nobody else's account may assume a role.
func (c *checker) checkTrust(r *resource) {
	if r.kind != "AWS::IAM::Role" {
		return
	}
	for _, s := range c.statements(field(r.properties, "AssumeRolePolicyDocument"), "no-wildcard-trust") {
		if effect, _ := literal(field(s, "Effect")); effect == "Deny" {
			continue
		}
		if n := field(s, "NotPrincipal"); n != nil {
			c.fault(manifest.Forbidden, n, "no-wildcard-trust: %s trusts all but some", r.name)
		}
		for _, principal := range items(field(s, "Principal")) {
			if principal.Kind != yaml.MappingNode {
				text, _ := literal(principal)
				c.checkPrincipal(principal, "AWS", text, r.name)
			}
			for kind, n := range pairs(principal) {
				for _, one := range items(n) {
					text, _ := literal(one)
					c.checkPrincipal(one, kind.Value, text, r.name)
				}
			}
		}
	}
}

// statements returns the statements of a policy document. What a rule can't read is a fault of it.
func (c *checker) statements(document *yaml.Node, rule string) (all []*yaml.Node) {
	for _, d := range items(document) {
		for _, s := range items(field(d, "Statement")) {
			if name, _ := intrinsic(s); name != "" || s.Kind != yaml.MappingNode {
				c.fault(manifest.Forbidden, s, "%s: the statement is computed: write it out", rule)
				continue
			}
			all = append(all, s)
		}
		if name, _ := intrinsic(d); name != "" || d.Kind != yaml.MappingNode {
			c.fault(manifest.Forbidden, d, "%s: the policy is computed: write it out", rule)
		}
	}
	return all
}

func (c *checker) checkPrincipal(n *yaml.Node, kind, text, role string) {
	name, argument := intrinsic(n)
	switch {
	case strings.Contains(text, "*"), name == "Fn::Sub" && argument.Value == "*":
		c.fault(manifest.Forbidden, n, "no-wildcard-trust: %s trusts everybody whom %q fits", role, text)
	case kind == "Service" && (strings.HasSuffix(text, ".amazonaws.com") || name == "Fn::Sub" &&
		strings.HasSuffix(argument.Value, ".${AWS::URLSuffix}")):
	case c.ownResource(n) != nil, name == "Ref" && argument.Value == "AWS::AccountId":
	case name == "Fn::Sub" && isOwnARN(argument.Value):
	default:
		c.fault(manifest.Forbidden, n, "no-outside-principal: %s trusts a principal that is neither of this account nor "+
			"an AWS service", role)
	}
}

// isOwnARN reports whether a text of Fn::Sub is an ARN of this account, whatever else is substituted.
func isOwnARN(text string) bool {
	parts := strings.Split(strings.ReplaceAll(text, "AWS::", "AWS."), ":")
	return len(parts) >= 6 && parts[0] == "arn" && parts[4] == "${AWS.AccountId}" && !strings.Contains(text, "*")
}

// checkPolicies is the rule agent-may-not: no policy lets a program in the account change stacks or pass roles. Only
// the customer executes a change set.
func (c *checker) checkPolicies(r *resource) {
	var documents []*yaml.Node
	switch r.kind {
	case "AWS::IAM::Role", "AWS::IAM::User", "AWS::IAM::Group":
		for _, p := range items(field(r.properties, "Policies")) {
			documents = append(documents, field(p, "PolicyDocument"))
		}
		for _, arn := range items(field(r.properties, "ManagedPolicyArns")) {
			c.checkManaged(arn, r.name)
		}
	case "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy", "AWS::IAM::UserPolicy",
		"AWS::IAM::GroupPolicy":
		documents = append(documents, field(r.properties, "PolicyDocument"))
	}
	for _, document := range documents {
		for _, s := range c.statements(document, "agent-may-not") {
			if effect, _ := literal(field(s, "Effect")); effect == "Deny" {
				continue
			}
			if n := field(s, "NotAction"); n != nil {
				c.fault(manifest.Forbidden, n, "agent-may-not: %s allows all but some actions: name those that it needs",
					r.name)
			}
			for _, action := range items(field(s, "Action")) {
				c.checkAction(action, r.name)
			}
		}
	}
}

// forbiddenActions are what no program in the account may do.
func forbiddenActions() []string {
	return []string{"cloudformation:executechangeset", "cloudformation:createstack", "cloudformation:updatestack",
		"cloudformation:deletestack", "cloudformation:setstackpolicy", "iam:passrole", "iam:createrole",
		"iam:putrolepolicy", "iam:attachrolepolicy", "iam:updateassumerolepolicy"}
}

func (c *checker) checkAction(n *yaml.Node, name string) {
	pattern, ok := literal(n)
	if !ok {
		c.fault(manifest.Forbidden, n, "agent-may-not: %s allows an action that is computed: write it out", name)
		return
	}
	for _, action := range forbiddenActions() {
		if matched, err := path.Match(strings.ToLower(pattern), action); matched || err != nil {
			c.fault(manifest.Forbidden, n, "agent-may-not: %s allows %.60q, and so %s", name, pattern, action)
			return
		}
	}
}

func (c *checker) checkManaged(n *yaml.Node, name string) {
	text, ok := literal(n)
	if !ok {
		if call, argument := intrinsic(n); call == "Fn::Sub" {
			text = argument.Value
		}
	}
	switch text[strings.LastIndexByte(text, '/')+1:] {
	case "AdministratorAccess", "PowerUserAccess", "IAMFullAccess", "AWSCloudFormationFullAccess":
		c.fault(manifest.Forbidden, n, "agent-may-not: %s has %s", name, text[strings.LastIndexByte(text, '/')+1:])
	}
}

// checkVersion is the rule version: each template says of which update it is, and the last one leaves the number in the
// account, where the agent reads it.
func (c *checker) checkVersion(number int, last bool) {
	want := strconv.Itoa(number)
	metadata := field(field(c.root, "Metadata"), "Sluice")
	at := metadata
	if at == nil {
		at = c.root
	}
	n := field(metadata, "Infrastructure")
	if text, ok := literal(n); !ok {
		c.fault(manifest.Missing, at, "version: Metadata has no Sluice: {Infrastructure: %s}", want)
	} else if text != want {
		c.fault(manifest.Conflict, n, "version: Metadata says %.20q, and the folder's number is %s", text, want)
	}
	r := c.resources[VersionResource]
	if r == nil || r.kind != "AWS::SSM::Parameter" {
		if last {
			c.fault(manifest.Missing, c.root, "version: the last template has no AWS::SSM::Parameter %s", VersionResource)
		}
		return
	}
	value := field(r.properties, "Value")
	if text, ok := literal(value); !ok || text != want {
		if value == nil {
			value = r.node
		}
		c.fault(manifest.Conflict, value, "version: %s has to have the Value %q", VersionResource, want)
	}
}
