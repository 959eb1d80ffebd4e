package handlers

import "strings"

// matches reports whether an If-None-Match header's values hold etag, by the weak comparison (RFC 9110,
// section 13.1.2); that of the compressed answer is as good. No ETag of ours holds a comma.
func matches(ifNoneMatch []string, etag string) bool {
	for _, value := range ifNoneMatch {
		for candidate := range strings.SplitSeq(value, ",") {
			candidate = strings.TrimSpace(candidate)
			candidate = strings.Replace(strings.TrimPrefix(candidate, "W/"), gzipSuffix+`"`, `"`, 1)
			if candidate == "*" || candidate == etag {
				return true
			}
		}
	}
	return false
}
