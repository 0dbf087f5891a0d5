"""Line drawings on a 16 × 16 grid, drawn with the text's colour."""

PATHS = {
    "keys": '<path d="M2.5 4h11M2.5 8h11M2.5 12h7"/>',
    "history": '<path d="M2.5 8a5.5 5.5 0 1 0 1.8-4.1L2.5 5.5M2.5 2.5v3h3M8 5v3.3l2.2 1.4"/>',
    "watch": '<path d="M1.5 8s2.3-4.5 6.5-4.5S14.5 8 14.5 8 12.2 12.5 8 12.5 1.5 8 1.5 8z"/>'
    '<circle cx="8" cy="8" r="2"/>',
    "leases": '<path d="M4.5 2h7M4.5 14h7M5.5 2v2.5L8 7.5l2.5-3V2M5.5 14v-2.5L8 8.5l2.5 3V14"/>',
    "pause": '<path d="M5.5 3.5v9M10.5 3.5v9"/>',
    "maintenance": '<path d="M9.8 5.2a3.2 3.2 0 0 1 4-3l-2 2 .3 1.7 1.7.3 '
    '2-2a3.2 3.2 0 0 1-4.2 4L5.4 14.4a1.6 1.6 0 0 1-2.3-2.3l6.2-6.2z"/>',
    "overview": '<path d="M1.5 8.5h3l2-5 3 9 2-4h3"/>',
    "audit": '<path d="M4 2h5.5L12.5 5v9h-8.5zM9 2v3.5h3.5M6 8.5h4M6 11h4"/>',
    "clusters": '<circle cx="8" cy="3.5" r="2"/><circle cx="3.5" cy="12" r="2"/>'
    '<circle cx="12.5" cy="12" r="2"/><path d="M7 5.3 4.5 10.2M9 5.3l2.5 4.9M5.5 12h5"/>',
    "accounts": '<circle cx="8" cy="5.2" r="2.7"/>'
    '<path d="M2.8 13.8c.6-3 2.6-4.3 5.2-4.3s4.6 1.3 5.2 4.3"/>',
    "down": '<path d="m4.5 6.5 3.5 3.5 3.5-3.5"/>',
    "plus": '<path d="M8 3v10M3 8h10"/>',
    "search": '<circle cx="7" cy="7" r="4.2"/><path d="m10.2 10.2 3.3 3.3"/>',
    "system": '<path d="M2 3h12v8H2zM5.5 13.5h5M8 11v2.5"/>',
    "light": '<circle cx="8" cy="8" r="2.8"/><path d="M8 1.5v1.7M8 12.8v1.7M1.5 8h1.7M12.8 8h1.7'
    'M3.4 3.4l1.2 1.2M11.4 11.4l1.2 1.2M12.6 3.4l-1.2 1.2M4.6 11.4l-1.2 1.2"/>',
    "dark": '<path d="M13 9.6A5.6 5.6 0 0 1 6.4 3a5.6 5.6 0 1 0 6.6 6.6z"/>',
    "lock": '<path d="M3.5 7h9v6.5h-9zM5.5 7V5a2.5 2.5 0 0 1 5 0v2"/>',
    "star": '<path class="fill" d="m8 2 1.8 3.9 4.2.5-3.1 2.9.8 4.2L8 '
    '11.4l-3.7 2.1.8-4.2L2 6.4l4.2-.5z"/>',
    "copy": '<path d="M5.5 5.5h8v8h-8zM3 10.5h-.5v-8h8V3"/>',
    "download": '<path d="M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11"/>',
    "edit": '<path d="m10.5 2.8 2.7 2.7L6 12.7l-3.4.7.7-3.4z"/>',
    "trash": '<path d="M2.5 4h11M6 4V2.5h4V4M4 4l.7 9.5h6.6L12 4M6.8 6.5v4.5M9.2 6.5v4.5"/>',
    "close": '<path d="m4 4 8 8M12 4l-8 8"/>',
    "next": '<path d="m6.5 4 4 4-4 4"/>',
    "warn": '<path d="M8 2 14.5 13.5h-13zM8 6.5v3M8 11.4v.4"/>',
    "check": '<path d="m3 8.5 3.3 3.3L13 5"/>',
}
