# What the example access_log must find, by other means: requests and bytes for each path and
# status, and the lines that are no requests.
{
    if ($0 ~ /^[^ ]+ [^ ]+ [^ ]+ \[[^]]*\] "[A-Z]+ [^ "]+ HTTP\/[^ "]*" [1-5][0-9][0-9] ([0-9]+|-)( |$)/) {
        split($0, quoted, "\"")
        split(quoted[2], request, " ")
        split(quoted[3], answer, " ")
        key = request[2] "," answer[1]
        requests[key]++
        bytes[key] += answer[2]
    } else {
        print "malformed " $0
    }
}
END {
    for (key in requests) printf "traffic %s,%d,%.0f\n", key, requests[key], bytes[key]
}
