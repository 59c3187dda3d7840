package template

import (
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
		if isUnchecked(r.kind) {
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

// isUnchecked reports whether a resource brings what this template does not show: others' types, and what makes more
// stacks, types or macros.
func isUnchecked(kind string) bool {
	switch {
	case kind == "", kind == "AWS::CloudFormation::WaitCondition", kind == "AWS::CloudFormation::WaitConditionHandle":
		return false
	case strings.HasPrefix(kind, "AWS::CloudFormation::"),
		strings.HasPrefix(kind, "AWS::ServiceCatalog::CloudFormation"):
		return true
	}
	return !strings.HasPrefix(kind, "AWS::") || strings.HasSuffix(kind, "::MODULE")
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

// isOneOf reports whether a resource of the template is of one of the types. Only such a resource is known to be what
// another one asks for: a parameter of SSM, say, has any text as its value.
func isOneOf(r *resource, kinds ...string) bool { return r != nil && slices.Contains(kinds, r.kind) }

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
	own := c.ownResource(n)
	switch {
	case strings.Contains(text, "*"), name == "Fn::Sub" && argument.Value == "*":
		c.fault(manifest.Forbidden, n, "no-wildcard-trust: %s trusts everybody whom %q fits", role, text)
	case kind == "Service" && (strings.HasSuffix(text, ".amazonaws.com") || name == "Fn::Sub" &&
		strings.HasSuffix(argument.Value, ".${AWS::URLSuffix}")):
	case kind == "AWS" && isOneOf(own, "AWS::IAM::Role", "AWS::IAM::User"):
	case kind == "Federated" && isOneOf(own, "AWS::IAM::OIDCProvider") &&
		isOneOf(c.ownResource(field(own.properties, "Url")), "AWS::EKS::Cluster"): // the cluster vouches for its pods
	case name == "Ref" && argument.Value == "AWS::AccountId":
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

// checkPolicies is the rule agent-may-not: no policy lets a program in the account change stacks, change what it or
// others may do, or pass roles. Only the customer executes a change set.
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
	return []string{
		"cloudformation:executechangeset", "cloudformation:createstack", "cloudformation:updatestack",
		"cloudformation:deletestack", "cloudformation:setstackpolicy", "cloudformation:rollbackstack",
		"cloudformation:continueupdaterollback", "cloudformation:cancelupdatestack", "cloudformation:createstackset",
		"cloudformation:updatestackset", "cloudformation:deletestackset", "cloudformation:createstackinstances",
		"cloudformation:updatestackinstances", "cloudformation:deletestackinstances",
		"cloudformation:executestackrefactor",

		"iam:passrole", "iam:createrole", "iam:updaterole", "iam:deleterole", "iam:updateassumerolepolicy",
		"iam:putrolepolicy", "iam:deleterolepolicy", "iam:attachrolepolicy", "iam:detachrolepolicy",
		"iam:putrolepermissionsboundary", "iam:deleterolepermissionsboundary", "iam:putuserpolicy",
		"iam:attachuserpolicy", "iam:putgrouppolicy", "iam:attachgrouppolicy", "iam:createpolicyversion",
		"iam:setdefaultpolicyversion",
	}
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
	if isOneOf(c.ownResource(n), "AWS::IAM::ManagedPolicy") || c.isNoValue(n) {
		return
	}
	text, ok := literal(n)
	if call, argument := intrinsic(n); call == "Fn::Sub" {
		text, ok = literal(argument)
		for _, m := range substitution().FindAllStringSubmatch(text, -1) {
			ok = ok && strings.HasPrefix(m[1], "AWS::")
		}
	}
	if !ok {
		c.fault(manifest.Forbidden, n, "agent-may-not: %s has a managed policy whose name is computed: write it out", name)
		return
	}
	switch text = text[strings.LastIndexByte(text, '/')+1:]; text {
	case "AdministratorAccess", "PowerUserAccess", "IAMFullAccess", "AWSCloudFormationFullAccess":
		c.fault(manifest.Forbidden, n, "agent-may-not: %s has %s", name, text)
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
