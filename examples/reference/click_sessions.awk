# What the example click_sessions must find, by other means: each user's clicks are sorted.
FNR == 1 { next }
{
    split($0, field, ",")
    at[field[2], ++clicks[field[2]]] = field[1]
    page[field[2], clicks[field[2]]] = field[3]
}
function finish(user) {
    printf "%s,%.0f,%.0f,%d,%s,%s\n", user, begin, end - begin, count, entry, leave
}
# Whether click `a` of a user is before click `b`; those of one time by their pages.
function before(user, a, b) {
    if (at[user, a] + 0 != at[user, b] + 0) return at[user, a] + 0 < at[user, b] + 0
    return page[user, a] "" < page[user, b] ""
}
END {
    for (user in clicks) {
        for (i = 2; i <= clicks[user]; i++)
            for (j = i; j > 1 && before(user, j, j - 1); j--) {
                t = at[user, j]; at[user, j] = at[user, j - 1]; at[user, j - 1] = t
                t = page[user, j]; page[user, j] = page[user, j - 1]; page[user, j - 1] = t
            }
        count = 0
        for (i = 1; i <= clicks[user]; i++) {
            if (count && at[user, i] - end > 1800000) { finish(user); count = 0 }
            if (!count++) { begin = at[user, i]; entry = page[user, i] }
            end = at[user, i]; leave = page[user, i]
        }
        finish(user)
    }
}
