# What the example top_pages must find, by other means.
FNR == 1 { next }
{
    split($0, field, ",")
    minute = sprintf("%.0f", field[1] - field[1] % 60000)
    minutes[minute]
    views[minute, field[2]]++
    pages[field[2]]
}
END {
    for (minute in minutes)
        for (rank = 1; rank <= 3; rank++) {
            best = ""
            for (page in pages) {
                if (!((minute, page) in views)) continue
                n = views[minute, page]
                if (best == "" || n > views[minute, best] || n == views[minute, best] && page < best)
                    best = page
            }
            if (best == "") break
            printf "%s,%d,%s,%d\n", minute, rank, best, views[minute, best]
            delete views[minute, best]
        }
}
