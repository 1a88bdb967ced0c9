package agent

import "strings"

// expand replaces $(NAME) by the variable's value in a command, an argument or
// the value of an environment variable. An unknown name stays as it is written,
// and $$ is a dollar sign that begins nothing, as the API documents.
func expand(s string, lookup func(string) (string, bool)) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:i])
		rest := s[i+1:]
		end := strings.IndexByte(rest, ')')
		switch {
		case rest[0] == '$':
			out.WriteByte('$')
			s = rest[1:]
		case rest[0] == '(' && end > 0:
			if v, ok := lookup(rest[1:end]); ok {
				out.WriteString(v)
			} else {
				out.WriteString("$" + rest[:end+1])
			}
			s = rest[end+1:]
		default:
			out.WriteByte('$')
			s = rest
		}
	}
}
